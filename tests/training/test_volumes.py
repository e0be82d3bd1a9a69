"""3D networks, from a config to label maps on the files' own grids."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from boundseg.data import phantom
from boundseg.data.dataset import Dataset, Splits, describe, write_splits
from boundseg.data.patches import Patches
from boundseg.errors import ConfigError, VolumeError
from boundseg.inference import slide
from boundseg.training.config import Config
from boundseg.training.evaluate import compare, evaluate
from boundseg.training.first_bias import expected_shares
from boundseg.training.loop import train
from boundseg.training.predict import predict
from boundseg.training.run import Run
from boundseg.training.supervision import Teaching, teach
from tests.conftest import CommandLine

from .cases import INDIVIDUAL, TAGS, VOLUME, entry, tiny

PATCHES = {"size": [16, 16, 4], "batch": "patches"}
VOLUMES = {"size": [24, 24, 8], "batch": "volumes"}
UNET = {"name": "unet", "channels": [4, 8], "strides": [2]}
TRAINING = {"epochs": 2, "batch_size": 2}


def config_of(folder: Path, *entries: dict[str, Any], data: dict[str, Any] = PATCHES, **sections: Any) -> Config:
    return tiny(folder, *entries, data=data, **{"network": UNET, "training": TRAINING, **sections})


def taught(folder: Path, *entries: dict[str, Any], data: dict[str, Any] = PATCHES, **sections: Any) -> Teaching:
    return teach(config_of(folder, *entries, data=data, **sections), Dataset.open(folder))


@pytest.fixture
def hearts(tmp_path: Path) -> Path:
    """Two patients, one volume each, a third of one's pixels labelled, and their volumes in mL."""
    folder = tmp_path / "phantoms"
    rows = [["case", "slice", "class", "quantity", "lower", "upper", "unit", "set", "source"]]
    for number in (1, 2):
        heart = phantom.heart(number, shape=(24, 20), spacing_mm=(4.5, 5.5))
        between, *in_plane = heart.spacing_mm
        affine = np.diag([*in_plane, between, 1.0])
        affine[:3, 3] = -30, 12, 4
        labels = np.where(np.random.default_rng(number).random(heart.target.shape) < 0.3, heart.target, 4)
        for path, array in (
            (f"imagesTr/p{number}_0000", heart.image),
            (f"labelsTr/p{number}", heart.target),
            (f"labelsTr_some/p{number}", labels.astype(np.uint8)),
        ):
            file = folder / f"{path}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.moveaxis(array, 0, 2), affine), file)
        volume_ml = (heart.target == 1).sum() * np.prod(heart.spacing_mm) / 1000
        rows.append(
            [f"p{number}", "", "LV", "size", f"{0.9 * volume_ml}", f"{1.1 * volume_ml}", "mL", "report", "made"]
        )
    describe(folder, channels=["MR"], labels=phantom.LABELS, ignore=4, file_ending=".nii.gz", training_cases=2)
    write_splits(folder, Splits({"p1": ["p1"], "p2": ["p2"]}, {"train": ["p1"], "validation": ["p2"], "test": []}))
    with (folder / "priors.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_two_volumes_and_a_size_in_ml_from_the_command_line(
    hearts: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        """
        data: {folder: phantoms, size: [16, 16, 4], batch: patches, spacing_mm: [5.5, 5.5, null], patches_per_case: 3}
        network: {name: unet, channels: [4, 8], strides: [2]}
        supervision:
          - cases: train
            labels: some
            constraints: [{size: {class: LV, set: report}}]
        training: {epochs: 2, batch_size: 2, augment: [mirror, transpose, {intensity: {gain: 0.1}}, {noise: 0.1}]}
        """
    )
    status, out, errors = command_line("train", str(config), "--out", str(tmp_path / "run"), "--device", "cpu")
    assert status == 0, out + errors
    last = Run.open(tmp_path / "run").metrics()[-1]
    # the held-out volume is seen whole: its bound holds on both sides
    bounded = "size LV report per volume in mL"
    assert np.isfinite([last["objective"], last[f"validation value: {bounded}"], last["validation dice: LV"]]).all()
    assert last[f"validation satisfied: {bounded}"] in (0.0, 1.0)
    status, out, errors = command_line(
        "predict", str(tmp_path / "run"), str(hearts / "imagesTr"), "--out", str(tmp_path / "predicted")
    )
    assert status == 0, out + errors
    for number in (1, 2):
        image = nib.load(hearts / f"imagesTr/p{number}_0000.nii.gz")
        found = nib.load(tmp_path / f"predicted/p{number}.nii.gz")
        assert found.shape == image.shape
        assert np.array_equal(found.affine, image.affine)
        assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2, 3}
    array, sides = np.asarray(image.dataobj), tuple(image.header.get_zooms())
    predicted = Run.open(tmp_path / "run").predict(array, [float(side) for side in sides])
    assert np.array_equal(predicted, np.asarray(found.dataobj))


@pytest.mark.parametrize("data", [PATCHES, VOLUMES], ids=["patches", "volumes"])
def test_a_resumed_training_draws_and_learns_what_the_unbroken_one_does(
    data: dict[str, Any], tiny_dataset: Path, tmp_path: Path, interrupt_after: Callable[[int], None]
) -> None:
    config = config_of(
        tiny_dataset, entry("seeds", "train", [VOLUME, INDIVIDUAL]), data=data, training={"augment": ["mirror"]}
    )
    unbroken = train(config, tmp_path / "unbroken", device="cpu", quiet=True)
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "resumed", device="cpu", quiet=True)
    resumed = train(config, tmp_path / "resumed", resume=True, device="cpu", quiet=True)
    ours, theirs = resumed.checkpoint("last").weights, unbroken.checkpoint("last").weights
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_config_says_what_is_drawn(tiny_dataset: Path) -> None:
    data = config_of(tiny_dataset, data={**PATCHES, "patches_per_case": 7, "foreground": 0.5}).data
    assert data.drawn == Patches((16, 16, 4), 7, 0.5)
    assert data.grid.patches
    assert config_of(tiny_dataset, data=VOLUMES).data.drawn == "volumes"
    again = Config.parse(config_of(tiny_dataset).model_dump(mode="json", by_alias=True))
    assert again == config_of(tiny_dataset)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"batch": "patches"}, "batch: patches cuts volumes, and size has two numbers: give rows, columns and slices."),
        (
            {"size": [8, 8, 8]},
            "batch: slices has no use for a third number in size: give two, or choose batch: patches",
        ),
        ({"size": [8]}, "data.size: 1 number(s) are given: give two, of rows and columns, or slices as a third."),
        ({**PATCHES, "spacing_mm": [1]}, "data.spacing_mm: 1 number(s) are given"),
        ({**PATCHES, "spacing_mm": [1, 1]}, "size has 3 axes and spacing_mm 2: give both the same."),
        ({**PATCHES, "fit": "crop"}, "batch: patches cuts from whole volumes, which fit: crop is not for: use pad."),
        ({**PATCHES, "complete": ["LV"]}, "complete says what a crop keeps, and batch: patches crops nothing: take it"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(tiny_dataset: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        tiny(tiny_dataset, data=data)
    assert message in str(raised.value)


def test_augmentations_that_move_slices_are_refused(tiny_dataset: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        config_of(tiny_dataset, training={"augment": ["mirror", {"rotate": 15}, {"elastic": 4}]})
    assert "rotate and elastic moves slices, and data.size has three axes: volumes and patches take mirror" in str(
        raised.value
    )


def test_networks_of_slices_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The network enet is 2D, not 3D.\n  in network. Use a 3D network of MONAI"):
        train(config_of(tiny_dataset, network={"name": "enet"}), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="The network unet makes 16x16x6 of images of 16x16x5"):
        train(
            config_of(tiny_dataset, data={**PATCHES, "size": [16, 16, 5]}), tmp_path / "run", device="cpu", quiet=True
        )
    assert not (tmp_path / "run").exists()


def test_bounds_of_slices_want_the_files_slices(tiny_dataset: Path) -> None:
    between = {**PATCHES, "spacing_mm": [1.5, 1.5, 4]}
    with pytest.raises(ConfigError) as raised:
        taught(tiny_dataset, entry("seeds", "train", [TAGS]), data=between)
    assert str(raised.value) == (
        "'size LV tags per slice in px' speaks of the file's slices, and 8 of 8 cases are resampled between them "
        "(patient1_frame01: from 5 slices to 10).\n  in data. Keep them, by a null as the third number of "
        "data.spacing_mm and no fit: resize; or give bounds per volume; or train on slices (data.batch: slices)."
    )
    assert taught(tiny_dataset, entry("seeds", "train", [VOLUME]), data=between).train
    assert taught(tiny_dataset, entry("seeds", "train", [TAGS]), data={**PATCHES, "spacing_mm": [1.5, 1.5, None]}).train


def test_what_no_patch_can_tell_is_refused_and_nothing_else(tiny_dataset: Path) -> None:
    mean = {"intensity": {"class": "LV", "between": [10, None], "per": "volume"}}
    least = {"size": {"class": "LV", "between": [5, None]}}
    most = {"size": {"class": "LV", "between": [5, 500]}}
    with pytest.raises(ConfigError) as raised:
        taught(tiny_dataset, entry("seeds", "train", [mean, least, most]))
    assert [problem.what for problem in raised.value.problems] == [
        "'intensity LV everywhere per volume in intensity' needs to see a whole volume, and no patch of 16x16x4 holds "
        "one.",
        "'size LV everywhere per slice in px' needs to see a whole slice, and no patch of 16x16x4 holds one.",
    ]
    assert "Enlarge it in its first two numbers, take the constraint out, or choose batch: volumes." in str(
        raised.value
    )
    wide = taught(tiny_dataset, entry("seeds", "train", [least, most]), data={**PATCHES, "size": [24, 24, 4]})
    assert len(wide.demands) == 2
    assert taught(tiny_dataset, entry("seeds", "train", [mean]), data={**PATCHES, "size": [24, 24, 8]}).train


@pytest.mark.parametrize("method", ["lagrangian", "augmented_lagrangian"])
def test_multipliers_want_whole_volumes(tiny_dataset: Path, method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} has a multiplier for every slice and volume, and patches show"):
        taught(tiny_dataset, entry("seeds", "train", [VOLUME]), method={"name": method})
    assert taught(tiny_dataset, entry("seeds", "train", [VOLUME, TAGS]), data=VOLUMES, method={"name": method}).train


def test_proposals_want_bounds_of_volumes(tiny_dataset: Path) -> None:
    with pytest.raises(ConfigError, match="proposals of a 3D network keep bounds of volumes, and 'size LV tags"):
        taught(tiny_dataset, entry("seeds", "train", [TAGS]), method={"name": "proposals"})
    assert taught(tiny_dataset, entry("seeds", "train", [VOLUME]), method={"name": "proposals"}).train


@pytest.mark.parametrize("method", ["lagrangian", "proposals"])
def test_other_methods_train_on_whole_volumes(tiny_dataset: Path, tmp_path: Path, method: str) -> None:
    asked = [VOLUME] if method == "proposals" else [VOLUME, TAGS]
    config = config_of(tiny_dataset, entry("seeds", "train", asked), data=VOLUMES, method={"name": method})
    assert np.isfinite(train(config, tmp_path / "run", device="cpu", quiet=True).metrics()[-1]["objective"])


def test_declared_classes_of_a_crop_are_tested_by_the_volume(tiny_dataset: Path) -> None:
    cropped = {"size": [16, 16, 3], "fit": "crop", "batch": "volumes"}
    with pytest.raises(Exception, match=r"patient1_frame01: the grid leaves out \d+\.\d% of LV, over 0\.0%"):
        taught(tiny_dataset, data={**cropped, "complete": ["LV"]})
    assert taught(tiny_dataset, data={**cropped, "complete": {"LV": 0.9}}).train[0].complete == (False, True, False)


@pytest.mark.parametrize("constraint", [VOLUME, INDIVIDUAL], ids=["volume", "slices"])
@pytest.mark.parametrize("data", [VOLUMES, {**VOLUMES, "size": [24, 24, 5]}], ids=["padded", "fitting"])
def test_expected_shares_are_those_of_the_voxels(
    tiny_dataset: Path, constraint: dict[str, Any], data: dict[str, Any]
) -> None:
    dataset = Dataset.open(tiny_dataset)
    found = expected_shares(taught(tiny_dataset, entry("seeds", "train", [constraint]), data=data), 3, dataset.ignore)
    full = expected_shares(taught(tiny_dataset, entry("full"), data=data), 3, dataset.ignore)
    assert found is not None
    assert full is not None
    true = [np.mean([(case.labels == 1).mean() for case in taught(tiny_dataset, entry("full"), data=data).train])]
    assert full[1] == pytest.approx(true[0])
    # bounds are 10 % about the size
    assert found[1] == pytest.approx(true[0], rel=0.02)


def test_a_window_slides_over_what_is_larger_and_sees_all_of_what_is_not() -> None:
    torch.manual_seed(0)
    seen: list[tuple[int, ...]] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return torch.cat([images, 2 * images], 1)

    images = torch.rand(1, 1, 10, 8, 6)
    torch.testing.assert_close(slide(network, images, (4, 8, 4)), torch.cat([images, 2 * images], 1))
    assert set(seen) == {(1, 1, 4, 8, 4)}
    assert len(seen) == 6
    seen.clear()
    slide(network, images, (10, 8, 6))
    assert seen == [(1, 1, 10, 8, 6)]


@pytest.fixture
def trained_in_3d(tiny_dataset: Path, tmp_path: Path) -> Run:
    cropped = {"size": [16, 16, 4], "fit": "crop", "batch": "volumes"}
    return train(config_of(tiny_dataset, data=cropped), tmp_path / "run", device="cpu", quiet=True)


def test_what_a_3d_run_is_asked_for_in_vain_it_says(trained_in_3d: Run, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="a 3D network needs a spacing of 3 axes, and 2 are given"):
        trained_in_3d.predict(np.zeros((20, 24, 5)), [1.0, 1.0])
    dataset = Dataset.open(trained_in_3d.config.data.folder)
    case = dataset.cases_of("test")[0]
    notes = predict(trained_in_3d, dataset.image_paths(case), tmp_path / "out").notes
    assert notes == [
        f"{case}: trained on centre crops: predicts the central 16x16x4 of 22x23x5 voxels, background outside"
    ]


@pytest.mark.parametrize("spacing_mm", [None, [1.5, 1.5, 4]], ids=["the file's slices", "other slices"])
def test_evaluation_measures_what_was_written_and_what_was_asked(
    spacing_mm: list[float] | None, tiny_dataset: Path, tmp_path: Path
) -> None:
    asked = [VOLUME] if spacing_mm else [VOLUME, INDIVIDUAL]
    data = {**PATCHES, "spacing_mm": spacing_mm}
    run = train(
        config_of(tiny_dataset, entry("seeds", "train", asked), data=data), tmp_path / "run", device="cpu", quiet=True
    )
    found = evaluate(run, "validation")
    true = compare(run.folder / "predictions", Dataset.open(tiny_dataset), "validation")
    for ours, theirs in ((found.volumes, true.volumes), (found.slices, true.slices)):
        pd.testing.assert_frame_equal(ours[theirs.columns], theirs)
    soft = found.volumes.set_index(["case", "class"])["soft_px"]
    for row in found.constraints[found.constraints["slice"] == ""].itertuples():
        voxel_ml = np.prod(Dataset.open(tiny_dataset).read_image(row.case)[1].spacing_mm) / 1000
        assert row.soft == pytest.approx(soft[row.case, "LV"] * voxel_ml, rel=1e-4)
        assert row.known
    of_slices = found.constraints[found.constraints["slice"] != ""]
    by_slice = found.slices.set_index(["case", "slice", "class"])["soft_px"]
    assert len(of_slices) == (0 if spacing_mm else 2 * 5)
    for row in of_slices.itertuples():
        assert row.soft == pytest.approx(by_slice[row.case, row.slice, "LV"], rel=1e-4)
    if spacing_mm:
        assert by_slice.isna().all()
    else:
        np.testing.assert_allclose(by_slice.groupby(["case", "class"]).sum(), soft.sort_index(), rtol=1e-4)


def test_the_slice_axis_may_be_any(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    """The same voxels stacked along another axis are the same case."""
    found = []
    for axis in (2, 0):
        folder = write_dataset(f"along{axis}", slice_axis=axis)
        run = train(
            config_of(folder, entry("seeds", "train", [VOLUME])), tmp_path / f"run{axis}", device="cpu", quiet=True
        )
        dataset = Dataset.open(folder)
        case = dataset.cases_of("test")[0]
        predict(run, dataset.image_paths(case), tmp_path / f"out{axis}")
        _, image = dataset.read_image(case)
        found.append(dataset.to_slices(dataset.read_label_file(tmp_path / f"out{axis}" / f"{case}.nii.gz", image)))
    assert np.array_equal(*found)
