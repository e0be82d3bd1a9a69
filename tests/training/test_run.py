"""What can be asked of a run folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from boundseg.data.dataset import Dataset
from boundseg.errors import CheckpointError, RunError, VolumeError
from boundseg.training.predict import predict
from boundseg.training.run import Run

from .cases import resampling


def test_an_array_is_predicted_as_its_file_is(trained: Run, tmp_path: Path) -> None:
    dataset = Dataset.open(trained.config.data.folder)
    for case in dataset.cases_of("test"):
        _, image = dataset.read_image(case)
        predict(trained, dataset.image_paths(case), tmp_path)
        written = dataset.read_label_file(tmp_path / f"{case}.nii.gz", image)
        found = trained.predict(image.array, image.spacing_mm)
        assert found.dtype == np.uint8
        assert np.array_equal(found, written)
        assert np.array_equal(trained.predict(image.array[None], image.spacing_mm[:2]), written)
        assert len(np.unique(found)) > 1


def test_best_and_last_are_the_weights_of_their_checkpoints(trained: Run) -> None:
    for which in ("best", "last"):
        weights = trained.predictor(which).network.state_dict()  # type: ignore[arg-type]
        kept = trained.checkpoint(which).weights  # type: ignore[arg-type]
        assert all(torch.equal(weights[name], kept[name]) for name in kept)
        assert not trained.predictor(which).network.training  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 20, 24, 5), (1, 1, 20, 24, 5)])
def test_an_array_that_is_no_volume_of_the_networks_channels_is_refused(trained: Run, shape: tuple[int, ...]) -> None:
    with pytest.raises(VolumeError) as caught:
        trained.predict(np.zeros(shape, np.float32), (1, 1, 8))
    assert str(caught.value).startswith(f"an array of shape {shape} is no volume of 1 channel(s).")


def test_an_array_with_holes_is_refused(trained: Run) -> None:
    holes = np.zeros((20, 24, 5), np.float32)
    holes[3, 3, 1:3] = np.nan
    holes[0, 0, 0] = np.inf
    with pytest.raises(VolumeError, match="the array holds 3 voxels of 2400 that are NaN or infinite"):
        trained.predict(holes, (1, 1, 8))


def test_an_array_that_the_trainings_spacing_would_blow_up_is_refused(trained: Run, tmp_path: Path) -> None:
    run = resampling(trained, tmp_path / "run", 0.0005)
    fact = r"the array has pixels of 1 x 1 mm, the training's are 0\.0005 x 0\.0005 mm: it would become 40000 x 48000"
    with pytest.raises(VolumeError, match=fact):
        run.predict(np.zeros((20, 24, 2), np.float32), (1, 1))


@pytest.mark.parametrize("missing", ["config.yaml", "environment.json"])
def test_a_folder_that_is_no_run_is_refused(trained: Run, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder, copy)
    (copy / missing).unlink()
    with pytest.raises(RunError, match=rf"{copy} is no run folder: {missing} is not there\.\n  boundseg train"):
        Run.open(copy)


def test_a_run_that_has_not_finished_an_epoch_has_no_weights(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints", "metrics.csv"))
    young = Run.open(tmp_path / "copy")
    assert young.metrics() == []
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in best\."):
        young.predictor()


def test_weights_of_another_network_are_refused(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "copy")
    path = tmp_path / "copy" / "environment.json"
    content = json.loads(path.read_text())
    content["labels"]["RV"] = 3
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"the weights do not fit the network: .*size mismatch"):
        Run.open(tmp_path / "copy").predictor()


def test_a_row_that_is_written_again_replaces_what_came_after(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for epoch, value in [(0.0, 1.0), (1.0, 0.5), (2.0, float("nan")), (1.0, 1 / 3)]:
        run.log_epoch({"epoch": epoch, "objective": value})
    assert run.metrics() == [{"epoch": 0, "objective": 1}, {"epoch": 1, "objective": 0.33333333}]


def test_a_column_is_read_as_it_was_named(tmp_path: Path) -> None:
    row = {"epoch": 0.0, 'validation dice: LV, "blood"': 0.5, "validation dice: NA": 0.25}
    Run(tmp_path).log_epoch(row)
    assert Run(tmp_path).metrics() == [row]


def test_columns_keep_their_order_where_an_epoch_knows_less(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for epoch, validated in enumerate([{}, {"validation objective": 2.0}, {}]):
        run.log_epoch({"epoch": float(epoch), **validated, "seconds": 1.0})
        header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
        assert header == ("epoch,validation objective,seconds" if epoch else "epoch,seconds")
    assert [math.isnan(row["validation objective"]) for row in run.metrics()] == [True, False, True]


def test_rows_with_other_columns_keep_theirs(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log_epoch({"epoch": 0.0, "objective": 1.0, "gone": 4.0})
    run.log_epoch({"seconds: loss": 2.0, "objective": 3.0, "epoch": 1.0})
    first, second = run.metrics()
    assert (first["objective"], first["gone"], second["objective"], second["seconds: loss"]) == (1, 4, 3, 2)
    assert np.isnan([first["seconds: loss"], second["gone"]]).all()
