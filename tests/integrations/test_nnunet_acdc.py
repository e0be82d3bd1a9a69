"""nnU-Net on real hearts, with bounds and without."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from boundseg.data import derive, priors
from boundseg.data.convert.acdc import convert_acdc
from boundseg.data.convert.nnunet import convert_nnunet, write_splits_final
from boundseg.data.dataset import Dataset
from boundseg.data.label_sets import write_label_set
from tests.integrations import nnunet_cases as cases

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")

CONSTRAINT = "- size: {class: LV, set: individual, penalty: log_hinge, weight: 0.1}"
# of patches, their spacing, how many make a batch, and after how many epochs of 25 steps a few bounds are kept
SHAPES = {"2d": ([144, 144], [3.0, 3.0], 8, 6), "3d_fullres": ([12, 128, 128], [10.0, 3.0, 3.0], 2, 16)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_violations_on_held_out_hearts_fall_against_the_same_run_without_bounds(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: str
) -> None:
    patients = pd.read_csv(real_data / "acdc" / "split.csv")
    of = {side: list(some.patient) for side, some in patients.groupby("split")}
    chosen = {"train": of["train"][:8], "validation": of["validation"][:4], "test": of["test"][:1]}
    cases.few(real_data / "acdc", tmp_path / "download", chosen)
    convert_acdc(tmp_path / "download", tmp_path / "hearts", ["LV"])
    dataset = Dataset.open(tmp_path / "hearts")
    write_label_set(dataset, dataset.training_cases, "erosion", "erosion")
    known = derive.individual(dataset, dataset.training_cases, ["LV"])
    priors.write(dataset.folder / "priors.csv", known)
    cases.enter(monkeypatch, tmp_path)
    written = convert_nnunet(dataset, tmp_path / "raw" / cases.NAME, "erosion", "full")
    preprocessed = tmp_path / "preprocessed" / cases.NAME
    write_splits_final(preprocessed / "splits_final.json", [(written.train, written.held_out)])
    patch, spacing, batch, epochs = SHAPES[configuration]
    schedule = f"epochs: {epochs}\niterations: 25\nvalidation_iterations: 2\n"
    cases.ask(tmp_path, f"constraints:\n  {CONSTRAINT}\n{schedule}")
    cases.ask(tmp_path, f"constraints: []\n{schedule}", "nothing")
    cases.plan(tmp_path, {configuration: {"patch_size": patch, "spacing": spacing, "batch_size": batch}})
    from boundseg.integrations.nnunet.judged import judge_folder, summary
    from boundseg.integrations.nnunet.trainer import named

    found = {}
    for trainer in ("nnUNetTrainerBoundseg_nothing", "nnUNetTrainerBoundseg"):
        torch.manual_seed(0)
        training = cases.trainer_of(
            named(trainer), tmp_path, configuration
        )  # on one thread, as nnU-Net's command is not
        training.run_training()
        training.perform_actual_validation()
        folder = cases.fold(tmp_path, trainer, configuration) / "validation"
        ((bounds, kept, missed),) = summary(judge_folder(folder, tmp_path / "raw" / cases.NAME)).values()
        print(f"{configuration} {trainer}: {kept} of {bounds} bounds kept, missed by {missed:.0f} px in the mean")
        found[trainer] = kept / bounds, missed
    with_bounds, without = found["nnUNetTrainerBoundseg"], found["nnUNetTrainerBoundseg_nothing"]
    assert with_bounds[1] < without[1] / 2
    assert with_bounds[0] > without[0]
