"""nnU-Net on real hearts, with bounds and without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from boundseg.data import derive, priors, volume_io
from boundseg.data.convert.acdc import convert_acdc
from boundseg.data.convert.nnunet import convert_nnunet, write_splits_final
from boundseg.data.dataset import Dataset
from boundseg.data.label_sets import write_label_set
from tests.integrations import nnunet_cases as cases

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")

CONSTRAINT = "- size: {class: LV, set: individual, penalty: log_hinge, weight: 0.1}"
# of patches, their spacing, how many make a batch, and after how many epochs of 25 steps a few bounds are kept
SHAPES = {"2d": ([144, 144], [3.0, 3.0], 8, 6), "3d_fullres": ([12, 128, 128], [10.0, 3.0, 3.0], 2, 16)}


PAGE = Path(__file__).parents[2] / "docs" / "nnunet.md"
# few processes, and threads that do not spin where others compute
ALONE = {"OMP_WAIT_POLICY": "PASSIVE"} | dict.fromkeys(
    ("nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps"), "1"
)


def hearts(real_data: Path, folder: Path, **patients: int) -> Dataset:
    """A dataset folder of the first patients of each side, with human scribbles."""
    table = pd.read_csv(real_data / "acdc" / "split.csv")
    chosen = {side: list(some.patient)[: patients[side]] for side, some in table.groupby("split")}
    cases.few(real_data / "acdc", folder.parent / "download", chosen)
    convert_acdc(folder.parent / "download", folder, ["LV"])
    return Dataset.open(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_violations_on_held_out_hearts_fall_against_the_same_run_without_bounds(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: str
) -> None:
    dataset = hearts(real_data, tmp_path / "hearts", train=8, validation=4, test=1)
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


def sh(commands: str, folder: Path) -> str:
    """What commands of a page print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-eu", "-c", commands],
        cwd=folder,
        env=os.environ | ALONE | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def volumes(dataset: Dataset) -> str:
    """What reports would say: the volume of every heart, as its full mask has it."""
    rows = ["scan,LV (mL)"]
    for path in sorted(dataset.folder.glob("labelsT[rs]/*.nii.gz")):
        mask = volume_io.read(path)
        volume_ml = (np.asarray(mask.array) == 1).sum() * np.prod(mask.spacing_mm) / 1000
        rows.append(f"{path.name.removesuffix('.nii.gz')},{volume_ml:.0f}")
    return "\n".join(rows) + "\n"


@pytest.mark.slow
def test_the_commands_of_the_page_lead_from_scribbles_and_volumes_to_predictions(
    real_data: Path, tmp_path: Path
) -> None:
    dataset = hearts(real_data, tmp_path / "ACDC_LV", train=3, validation=1, test=2)
    (tmp_path / "volumes.csv").write_text(volumes(dataset))
    sh('boundseg priors ACDC_LV report --table volumes.csv --column "LV (mL)" --case-column scan', tmp_path)
    (block,) = re.findall(r"^```sh\n(export nnUNet_raw=.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    variables = block.splitlines()[0]
    convert, planning, rest = re.split(r"^(nnUNetv2_plan_and_preprocess .*)$", block, flags=re.M)
    sh(convert, tmp_path)
    # a network and a schedule for minutes on one core; patches at this spacing hold whole hearts
    raw, preprocessed = (tmp_path / name / "Dataset027_LV" for name in ("raw", "preprocessed"))
    with (raw / "boundseg.yaml").open("a") as settings:
        settings.write("epochs: 8\niterations: 25\nvalidation_iterations: 1\n")
    sh(f"{variables}\n{planning} -npfp 1 -np 1 1 -overwrite_target_spacing 10 5 5", tmp_path)
    cases.shrink(preprocessed / "nnUNetPlans.json", {"3d_fullres": {}})
    if not torch.cuda.is_available():
        rest = re.sub(r"^(boundseg nnunet (?:train|predict) .*)$", r"\1 -device cpu", rest, flags=re.M)
    printed = sh(f"{variables}\n{rest}", tmp_path)
    tests = {path.name for path in (dataset.folder / "labelsTs").iterdir()}
    assert {path.name for path in (tmp_path / "predictions").glob("*.nii.gz")} == tests
    assert len(tests) == 4
    table = printed[printed.rindex("missed by, mean") :]
    assert re.search(r"size LV report per volume in mL\W+4\W+[\d.]+%\W+[\d.]+", table), table
