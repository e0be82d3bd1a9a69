"""A trained network judged: what is written, against what can be measured on the written files by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice

from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError, InputError, RunError, VolumeError
from boundseg.training.evaluate import compare, evaluate
from boundseg.training.loop import train
from boundseg.training.predict import predict
from boundseg.training.run import Run

from .cases import INDIVIDUAL, VOLUME, entry, resampling, tiny

HELD_OUT = ["patient4_frame01", "patient4_frame07"]
CLASSES = {"LV": 1, "Myo": 2}


@pytest.fixture
def own(trained: Run, tmp_path: Path) -> Run:
    """A copy of the run, to write into."""
    return Run.open(shutil.copytree(trained.folder, tmp_path / "run"))


def label_maps(run: Run, case: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Prediction and reference, slices first, and the spacing, from the files."""
    dataset = Dataset.open(run.config.data.folder)
    _, image = dataset.read_image(case)
    written = dataset.read_label_file(run.folder / "predictions" / f"{case}.nii.gz", image)
    reference = dataset.read_labels(case, "full", image)
    return dataset.to_slices(written), dataset.to_slices(reference), image.spacing_mm


def test_rows_agree_with_what_the_written_label_maps_say(own: Run) -> None:
    found = evaluate(own, "validation")
    assert len(found.volumes) == 4
    assert len(found.slices) == 20
    for row in found.volumes.to_dict("records"):
        prediction, reference, spacing_mm = label_maps(own, row["case"])
        value = CLASSES[row["class"]]
        ours, theirs = (torch.from_numpy(m == value)[None, None] for m in (prediction, reference))
        assert row["patient"] == "patient4"
        assert row["dice"] == pytest.approx(float(compute_dice(ours, theirs)))
        assert row["predicted_px"] == (prediction == value).sum()
        assert row["reference_px"] == (reference == value).sum()
        voxel_ml = float(np.prod(spacing_mm)) / 1000
        assert row["volume_error_ml"] == pytest.approx((row["predicted_px"] - row["reference_px"]) * voxel_ml)
    for row in found.slices.to_dict("records"):
        prediction, reference, _ = label_maps(own, row["case"])
        index, value = row["slice"], CLASSES[row["class"]]
        assert row["predicted_px"] == (prediction[index] == value).sum()
        assert row["reference_px"] == (reference[index] == value).sum()


def test_a_case_that_the_trainings_spacing_would_blow_up_is_refused(trained: Run, tmp_path: Path) -> None:
    run = resampling(trained, tmp_path / "run", 0.0005)
    with pytest.raises(VolumeError, match=rf"{HELD_OUT[0]} has pixels of 1\.45 x 1\.5 mm, ") as caught:
        evaluate(run, "validation")
    assert caught.value.problems[0].where == str(run.config.data.folder / "imagesTr")
    assert not (run.folder / "evaluation").exists()


def test_bounds_are_kept_to_a_pixel_softly_and_by_the_label_map(own: Run) -> None:
    found = evaluate(own, "validation").constraints
    assert set(found["constraint"]) == {"size LV individual per slice in px"}
    assert len(found) == 10
    with (own.config.data.folder / "priors.csv").open(newline="") as file:
        known = {
            (row["case"], int(row["slice"])): (float(row["lower"]), float(row["upper"]))
            for row in csv.DictReader(file)
            if row["set"] == "individual" and row["class"] == "LV"
        }
    for row in found.to_dict("records"):
        prediction, _, _ = label_maps(own, row["case"])
        lower, upper = known[row["case"], row["slice"]]
        assert (row["lower"], row["upper"]) == pytest.approx((lower, upper))
        assert row["known"] is True
        hard = (prediction[row["slice"]] == 1).sum()
        assert row["hard"] == hard
        assert row["hard_kept"] == (lower - 1 <= hard <= upper + 1)
        assert row["soft_kept"] == (lower - 1 <= row["soft"] <= upper + 1)
        assert row["soft"] > 0


def test_soft_volumes_are_sums_of_the_written_probabilities(own: Run, tmp_path: Path) -> None:
    found = evaluate(own, "validation")
    dataset = Dataset.open(own.config.data.folder)
    for case in HELD_OUT:
        predict(own, dataset.image_paths(case), tmp_path / "out", probabilities=True)
        for row in found.volumes[found.volumes["case"] == case].to_dict("records"):
            import nibabel as nib

            path = tmp_path / "out" / f"{case}_probability_{row['class']}.nii.gz"
            probability = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
            assert row["soft_px"] == pytest.approx(probability.sum(), rel=1e-5)
        of_case = found.slices[found.slices["case"] == case]
        total = of_case.groupby("class")["soft_px"].sum()
        assert total.to_dict() == pytest.approx(
            found.volumes[found.volumes["case"] == case].set_index("class")["soft_px"].to_dict()
        )


def test_what_was_found_is_written_as_tables(own: Run) -> None:
    found = evaluate(own, "validation")
    for name in ("volumes", "slices", "constraints"):
        read = pd.read_csv(own.folder / "evaluation" / f"{name}.csv")
        written = getattr(found, name)
        assert list(read) == list(written)
        assert len(read) == len(written)
        if "dice" in read:
            assert np.allclose(read["dice"], written["dice"], rtol=1e-5, equal_nan=True)
            assert read["dice"].isna().sum() == written["dice"].isna().sum()


def test_evaluating_twice_changes_nothing(own: Run) -> None:
    evaluate(own, "validation")
    before = {path: path.read_bytes() for path in (own.folder / "evaluation").iterdir()}
    evaluate(own, "validation")
    assert before == {path: path.read_bytes() for path in (own.folder / "evaluation").iterdir()}


def test_another_datasets_bounds_are_not_asked(own: Run, write_dataset: Any) -> None:
    other = Dataset.open(write_dataset("elsewhere", seed=7))
    found = evaluate(own, "test", dataset=other)
    assert found.constraints.empty
    assert found.satisfaction() == []
    assert set(found.volumes["case"]) == {"patient5_frame01", "patient5_frame07"}


def test_a_dataset_with_other_classes_or_channels_is_refused(own: Run, write_dataset: Any) -> None:
    folder = write_dataset("elsewhere", channels=2)
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"background": 0, "Myo": 1, "LV": 2, "RV": 3, "ignore": 4}
    (folder / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(RunError) as caught:
        evaluate(own, "test", dataset=Dataset.open(folder))
    classes, channels = (problem.what for problem in caught.value.problems)
    assert "trained on the classes background 0, LV 1, Myo 2, and" in classes
    assert classes.endswith("has background 0, Myo 1, LV 2, RV 3.")
    assert channels.endswith("has MR0, MR1.")
    assert not (own.folder / "evaluation").exists()


def test_a_volume_bound_is_one_row_a_case(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(tiny_dataset, entry("seeds", "train", [VOLUME]), training={"epochs": 1, "batch_size": 15})
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    found = evaluate(run, "validation").constraints
    assert list(found["case"]) == HELD_OUT
    for row in found.to_dict("records"):
        prediction, reference, spacing_mm = label_maps(run, row["case"])
        voxel_ml = float(np.prod(spacing_mm)) / 1000
        true_ml = (reference == 1).sum() * voxel_ml
        assert row["slice"] == ""
        assert (row["lower"], row["upper"]) == pytest.approx((0.9 * true_ml, 1.1 * true_ml), rel=1e-4)
        assert row["hard"] == pytest.approx((prediction == 1).sum() * voxel_ml, rel=1e-5)


def test_cases_nobody_knows_bounds_of_have_unknown_ones(own: Run) -> None:
    found = evaluate(own, "test")
    assert not found.constraints["known"].any()
    (row,) = found.satisfaction()
    assert (row["known"], row["kept (soft)"]) == ("0 of 10", "NaN")


def test_label_maps_of_anybody_are_measured_alike(own: Run) -> None:
    found = evaluate(own, "validation")
    compared = compare(own.folder / "predictions", Dataset.open(own.config.data.folder), "validation")
    shared = [name for name in found.volumes if name != "soft_px"]
    pd.testing.assert_frame_equal(compared.volumes, found.volumes[shared])
    pd.testing.assert_frame_equal(compared.slices, found.slices[[n for n in found.slices if n != "soft_px"]])


def test_a_reference_is_perfect(trained: Run) -> None:
    dataset = Dataset.open(trained.config.data.folder)
    found = compare(dataset.folder / "labelsTr", dataset, "train")
    assert set(found.volumes["dice"]) == {1.0}
    assert set(found.volumes["volume_error_px"]) == {0}
    empty = found.slices["reference_px"] == 0
    assert empty.any()
    assert found.slices["dice"].isna().equals(empty)


def test_cases_without_masks_are_refused_all_at_once(tiny_dataset: Path, trained: Run) -> None:
    for path in (tiny_dataset / "labelsTs").iterdir():
        path.unlink()
    dataset = Dataset.open(tiny_dataset)
    for judge in (
        lambda: evaluate(trained, "test", dataset=dataset),
        lambda: compare(tiny_dataset, dataset, "test"),
    ):
        with pytest.raises(InputError) as caught:
            judge()
        facts = [problem.what for problem in caught.value.problems]
        assert facts == [f"patient5_{frame} has no full mask." for frame in ("frame01", "frame07")]


def test_unknown_cases_and_missing_label_maps_are_refused(trained: Run, tmp_path: Path) -> None:
    dataset = Dataset.open(trained.config.data.folder)
    with pytest.raises(DatasetError, match="'tset' is no list, patient or case; did you mean 'test'"):
        evaluate(trained, "tset")
    with pytest.raises(DatasetError, match=r"2 of 2 label maps are not there: patient5_frame01\.nii\.gz"):
        compare(tmp_path, dataset, "test")


def test_a_crop_is_judged_on_the_whole_slice(trained_on_crops: Run, tmp_path: Path) -> None:
    own = Run.open(shutil.copytree(trained_on_crops.folder, tmp_path / "run"))
    found = evaluate(own, "validation")
    for row in found.volumes.to_dict("records"):
        _, reference, _ = label_maps(own, row["case"])
        assert row["reference_px"] == (reference == CLASSES[row["class"]]).sum()


def test_validation_while_training_agrees_with_the_evaluation_afterwards(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(
        tiny_dataset,
        entry("seeds", "train", [INDIVIDUAL]),
        training={"epochs": 1, "batch_size": 15, "first_bias": "zero"},
    )
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    (row,) = run.metrics()
    found = evaluate(run, "validation", which="last")
    for name, volumes in found.volumes.groupby("class"):
        # padding only: the prepared grid holds every pixel of the file once
        assert row[f"validation dice: {name}"] == pytest.approx(volumes["dice"].mean(), abs=1e-6)
    kept = found.constraints["soft_kept"].mean()
    assert row["validation satisfied: size LV individual per slice in px"] == pytest.approx(kept)
