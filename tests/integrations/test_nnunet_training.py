"""The real nnU-Net on small volumes: plan, preprocess, train, resume, predict, in 2D and 3D."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from boundseg.data import priors
from boundseg.data.convert.nnunet import convert_nnunet, write_splits_final
from boundseg.data.dataset import Dataset
from boundseg.data.priors import Prior
from boundseg.errors import ConfigError, DatasetError, InputError
from tests.conftest import fill, heart
from tests.integrations import nnunet_cases as cases

if TYPE_CHECKING:
    from boundseg.integrations.nnunet.patch import Patch

pytest.importorskip("nnunetv2", reason="pip install 'boundseg[nnunet]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # nnU-Net's own

BOUNDS = """
constraints:
  - size: {class: LV, set: individual, penalty: log_hinge, weight: 0.1, warm_up: 2}
  - size: {class: LV+Myo, between: [0, 4000], per: volume, unit: px}
"""
SLICES = "size LV individual per slice in px"  # the first of them, as it is named
SHORT = "epochs: 2\niterations: 2\nvalidation_iterations: 1\n"
SHAPES = {
    "2d": {"patch_size": [32, 32], "batch_size": 4},
    "3d_fullres": {"patch_size": [8, 32, 32], "batch_size": 2},
}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Planned and preprocessed, with nnU-Net's variables set."""
    root = tmp_path_factory.mktemp("nnunet")
    fill(root / "hearts", patients={"train": 2, "validation": 1, "test": 1}, frames=("frame01",))
    with pytest.MonkeyPatch.context() as patch:
        cases.enter(patch, root)
        written = convert_nnunet(Dataset.open(root / "hearts"), root / "raw" / cases.NAME, "seeds")
        splits = root / "preprocessed" / cases.NAME / "splits_final.json"
        write_splits_final(splits, [(written.train, written.held_out)])
        cases.ask(root, BOUNDS + SHORT)
        cases.ask(root, "constraints: []\n" + SHORT, "nothing")
        cases.plan(root, SHAPES)
        import sys

        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        patch.setattr(sys.modules[nnUNetTrainer.__module__], "default_num_processes", 1)
        yield root


@pytest.mark.parametrize(
    ("configuration", "patch", "volumes"), [("2d", "32x32", "0 of 2"), ("3d_fullres", "8x32x32", "2 of 2")]
)
def test_trains_resumes_and_predicts_with_the_commands_of_nnunet(
    planned: Path, monkeypatch: pytest.MonkeyPatch, configuration: str, patch: str, volumes: str
) -> None:
    from boundseg.integrations.nnunet import entry
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    monkeypatch.setattr("multiprocessing.cpu_count", lambda: 1)  # torch's threads
    common = [str(cases.NUMBER), configuration, "0", "-device", "cpu"]
    ended = nnUNetTrainerBoundseg.on_epoch_end
    strengths = []

    def stop_after_the_first(self: nnUNetTrainerBoundseg) -> None:
        strengths.append(self.loss.strength[SLICES])
        self.save_every = 1
        ended(self)
        if self.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(nnUNetTrainerBoundseg, "on_epoch_end", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        entry.train(common)
    folder = cases.fold(planned, "nnUNetTrainerBoundseg", configuration)
    assert (folder / "checkpoint_latest.pth").is_file()
    entry.train([*common, "--c"])
    assert strengths == [0, 0.5], "the warm-up goes on where it was"
    log = _log(folder)
    assert re.findall(r"Epoch (\d)\s*$", log, flags=re.M) == ["0", "1"]
    assert re.search(rf"train {SLICES}: [\d.]+% of \d+ bounds kept, mean penalty", log)
    assert re.search(r"val size LV\+Myo everywhere per volume in px", log)
    assert f"A patch of {patch} holds a whole slice of 2 of 2 training cases" in log
    assert f"A patch of {patch} holds a whole volume of {volumes} training cases" in log
    rows = (folder / "validation" / "bounds.csv").read_text().splitlines()
    assert rows[0] == "case,slice,constraint,value,lower,upper,kept"
    assert len(rows) == 1 + 5 + 1
    assert (folder / "boundseg.yaml").read_text() == BOUNDS + SHORT
    raw, predictions = planned / "raw" / cases.NAME, planned / f"predictions_{configuration}"
    where = ["-i", str(raw / "imagesTs"), "-o", str(predictions), "-d", str(cases.NUMBER), "-c", configuration]
    entry.predict([*where, "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0"])
    (test,) = (raw / "imagesTs").iterdir()
    image = nib.load(test)
    found = nib.load(predictions / test.name.replace("_0000", ""))
    assert found.shape == image.shape
    assert np.allclose(found.affine, image.affine, atol=1e-4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # see test_nnunet_frame.py
@pytest.mark.parametrize("configuration", [pytest.param("2d", marks=pytest.mark.slow), "3d_fullres"])
def test_background_workers_of_nnunet_bring_bounds_along(
    planned: Path, monkeypatch: pytest.MonkeyPatch, configuration: str
) -> None:
    from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter

    from boundseg.integrations.nnunet.trainer import named

    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    cases.ask(planned, BOUNDS + SHORT, "workers")
    training = cases.trainer_of(named("nnUNetTrainerBoundseg_workers"), planned, configuration)
    training.run_training()
    assert isinstance(training.dataloader_train, NonDetMultiThreadedAugmenter)
    log = _log(cases.fold(planned, "nnUNetTrainerBoundseg_workers", configuration))
    for side, steps in (("train", 2), ("val", 1)):
        found = re.findall(rf"{side} {SLICES}: [\d.]+% of (\d+) bounds kept", log)
        shown = 4 if configuration == "2d" else 2 * 5  # slices in a batch, of which augmentation may spoil some
        assert len(found) == 2
        assert all(0 < int(known) <= steps * shown for known in found)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_without_bounds_the_loss_is_that_of_nnunet_and_with_them_it_is_more(planned: Path, configuration: str) -> None:
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from boundseg.integrations.nnunet.trainer import named

    found, gradients = {}, {}
    for name in ("nnUNetTrainer", "nnUNetTrainerBoundseg_nothing", "nnUNetTrainerBoundseg"):
        training = cases.trainer_of(nnUNetTrainer if name == "nnUNetTrainer" else named(name), planned, configuration)
        torch.manual_seed(0)
        training.initialize()
        training.set_deep_supervision_enabled(True)
        if name == "nnUNetTrainer":
            np.random.seed(0)
            batch = next(training.get_dataloaders()[0])
        if name == "nnUNetTrainerBoundseg_nothing":
            assert type(training.get_dataloaders()[0].data_loader) is nnUNetDataLoader
        if name == "nnUNetTrainerBoundseg":
            training.loss.patches = next(training.get_dataloaders()[0])["patches"]
        logits = training.network(batch["data"])
        loss = training.loss(logits, batch["target"])
        loss.backward()
        found[name] = float(loss)
        gradients[name] = next(training.network.parameters()).grad
    assert found["nnUNetTrainerBoundseg_nothing"] == found["nnUNetTrainer"]
    assert torch.equal(gradients["nnUNetTrainerBoundseg_nothing"], gradients["nnUNetTrainer"])
    assert found["nnUNetTrainerBoundseg"] > found["nnUNetTrainer"] + 1e-3, "an untrained network keeps no bounds"
    assert not torch.equal(gradients["nnUNetTrainerBoundseg"], gradients["nnUNetTrainer"])


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_where_all_is_seen_too_little_costs_and_the_reference_costs_nothing(planned: Path, configuration: str) -> None:
    from boundseg.integrations.nnunet.patch import Located
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    training = cases.trainer_of(nnUNetTrainerBoundseg, planned, configuration)
    training.initialize()
    _, held_out = training.get_dataloaders()  # not augmented
    batch = next(held_out)
    training.loss.patches = batch["patches"]
    empty = torch.zeros(len(batch["data"]), 3, *batch["data"].shape[2:])
    empty[:, 0] = 20
    located = Located.of(batch["patches"], empty.shape[2:], 3, empty.device)
    training.loss.penalty(empty, located)
    known, kept, cost = training.loss.read()[SLICES]
    shown = [index for patch in batch["patches"] for index in patch.slices if index >= 0]
    with_heart = sum(index < 4 for index in shown)  # the last slice holds none
    assert known == len(shown)
    assert kept * known == len(shown) - with_heart
    assert (cost > 0) == (with_heart > 0)
    masks = np.stack([_mask_of(planned, patch) for patch in batch["patches"]])
    reference = torch.nn.functional.one_hot(torch.from_numpy(masks).long(), 3).movedim(-1, 1).float() * 40
    training.loss.penalty(reference, located)
    _, kept, _ = training.loss.read()[SLICES]
    assert kept == 1


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_padding_is_background_to_nnunet_and_nothing_where_there_are_bounds(planned: Path, configuration: str) -> None:
    from boundseg.integrations.nnunet.patch import Located
    from boundseg.integrations.nnunet.trainer import named

    found = {}
    for name in ("nnUNetTrainerBoundseg_nothing", "nnUNetTrainerBoundseg"):
        training = cases.trainer_of(named(name), planned, configuration)
        training.initialize()
        if name == "nnUNetTrainerBoundseg_nothing":
            training.loss.patches = None
        else:
            batch = next(training.get_dataloaders()[1])
            training.loss.patches = batch["patches"]
        found[name] = training
    target = batch["target"]
    full = target[0] if isinstance(target, list) else target
    inside = Located.of(batch["patches"], full.shape[2:], 3, full.device).inside.unsqueeze(1)
    assert (full[~inside.expand_as(full)] == 0).all(), "nnU-Net's padding"
    assert (~inside).any()
    logits = [
        torch.randn(len(level), 3, *level.shape[2:]) for level in (target if isinstance(target, list) else [target])
    ]
    seen = torch.nn.functional.interpolate
    changed = [torch.where(seen(inside.float(), one.shape[2:]) > 0, one, one + torch.randn_like(one)) for one in logits]
    losses = {
        name: [float(training.loss(some, target)) for some in (logits, changed)] for name, training in found.items()
    }
    before, after = losses["nnUNetTrainerBoundseg"]
    assert after == pytest.approx(before, rel=1e-6)
    before, after = losses["nnUNetTrainerBoundseg_nothing"]
    assert abs(after - before) > 1e-3


def _log(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("training_log_*.txt")))


def _mask_of(planned: Path, patch: Patch) -> np.ndarray:
    """The full mask at the place of a patch that nobody has augmented; nnU-Net resamples it by a voxel at most."""
    full = nib.load(planned / "hearts" / "labelsTr" / f"{patch.case}.nii.gz").get_fdata()
    network = full.transpose(2, 1, 0)
    size = (8, 32, 32) if len(patch.slices) > 1 else (1, 32, 32)
    first = np.rint(patch.affine[::-1][:, 3]).astype(int)
    found = np.zeros(size, int)
    for index in np.ndindex(size):
        place = np.add(first, index)
        if (place >= 0).all() and (place < network.shape).all():
            found[index] = network[tuple(place)]
    return found[0] if size[0] == 1 else found


def test_a_step_towards_the_bounds_in_3d(planned: Path) -> None:
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "3d_fullres")
    torch.manual_seed(0)
    training.on_train_start()
    training.on_train_epoch_start()
    assert training.loss.strength == {
        SLICES: 0.0,
        "size LV+Myo everywhere per volume in px": 1.0,
    }
    batch = next(training.dataloader_train)
    for patch in batch["patches"]:
        assert set(patch.slices) == {-1, 0, 1, 2, 3, 4}
    training.train_step(batch)
    known, _, cost = training.loss.read()[SLICES]
    assert known == 2 * 5
    assert cost > 0


def test_autocast_and_a_compiled_network_change_no_more_than_half_precision(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    compile_any = torch.compile
    # nnU-Net compiles on a GPU; the same graph, without a C++ compiler's minute
    monkeypatch.setattr(torch, "compile", lambda *args, **options: compile_any(*args, backend="aot_eager", **options))
    found = {}
    for compiled in (False, True):
        monkeypatch.setattr(nnUNetTrainerBoundseg, "_do_i_compile", lambda self, compiled=compiled: compiled)
        training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
        torch.manual_seed(0)
        training.on_train_start()
        training.on_train_epoch_start()
        training.loss.strength = {}
        if not compiled:
            batch = next(training.dataloader_train)
        with torch.autocast("cpu", torch.bfloat16, enabled=compiled):
            loss = training.train_step(batch)["loss"]
        found[compiled] = float(loss), training.loss.read()
    assert type(training.network).__name__ == "OptimizedModule"
    assert found[True][0] == pytest.approx(found[False][0], rel=0.02)
    for name, (known, _, cost) in found[False][1].items():
        assert found[True][1][name][0] == known
        assert found[True][1][name][2] == pytest.approx(cost, rel=0.05)


def test_a_trainer_is_found_as_nnunet_looks_it_up(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    from boundseg.integrations.nnunet.entry import FOLDER
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    def look_up(name: str) -> type | None:
        folder = str(FOLDER)
        found: type | None = recursive_find_python_class(
            folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True
        )
        return found

    assert look_up("nnUNetTrainerBoundseg") is nnUNetTrainerBoundseg
    other = look_up("nnUNetTrainerBoundseg_nothing")
    assert other is not None
    assert other.__name__ == "nnUNetTrainerBoundseg_nothing"
    assert issubclass(other, nnUNetTrainerBoundseg)
    assert look_up("nnUNetTrainerOfSomebody") is None


def test_bounds_of_slices_that_nnunet_does_not_see_are_refused(planned: Path) -> None:
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
    training.dataset_json["slice_axis"] = 0
    with pytest.raises(ConfigError, match=r"slices along axis 0, and in the configuration 2d[\s\S]*Set slice_axis"):
        training.on_train_start()


def test_rows_of_slices_that_are_not_there_are_told_before_the_first_step(planned: Path) -> None:
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    path = planned / "raw" / cases.NAME / "priors.csv"
    before = path.read_text()
    training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
    training.initialize()
    splits = training.do_split()
    rows = [Prior(side[0], 40, "LV", "size", 0, 9, "px", "individual", "typed") for side in splits]
    priors.write(path, [*priors.read(path), *rows])
    try:
        training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
        with pytest.raises(InputError) as told:
            training.on_train_start()
        judging = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
        judging.initialize()
        with pytest.raises(InputError, match="speaks of slice 40"):
            judging.perform_actual_validation()
    finally:
        path.write_text(before)
    assert [problem.what for problem in told.value.problems] == [
        f"{side[0]} has slices 0 to 4, and a row speaks of slice 40." for side in splits
    ]


def test_a_dataset_without_an_ignore_label_is_refused_by_the_command(
    planned: Path, command_line: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = planned / "preprocessed" / cases.NAME / "dataset.json"
    before = path.read_text()
    description = json.loads(before)
    del description["labels"]["ignore"]
    path.write_text(json.dumps(description))
    try:
        code, _, told = command_line("nnunet", "train", cases.NUMBER, "2d", "0", "-device", "cpu")  # type: ignore[operator]
    finally:
        path.write_text(before)
    assert code == 2, told
    assert "dataset.json has no label 'ignore'" in told
    assert "labels: full" in told


def test_bounds_of_pictures_are_refused(planned: Path) -> None:
    from boundseg.integrations.nnunet.trainer import nnUNetTrainerBoundseg

    training = cases.trainer_of(nnUNetTrainerBoundseg, planned, "2d")
    training.plans_manager.plans["image_reader_writer"] = "NaturalImage2DIO"
    with pytest.raises(DatasetError) as told:
        training.on_train_start()
    (problem,) = told.value.problems
    assert re.fullmatch(r"\w+: it is not known how NaturalImage2DIO turns the axes of a file\.", problem.what)
    assert problem.remedy.endswith("which read NIfTI, NRRD and MetaImage.")


@pytest.mark.slow
def test_pictures_train_as_ever_without_bounds_and_are_refused_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boundseg.integrations.nnunet.trainer import named

    cases.enter(monkeypatch, tmp_path)
    names = [f"tile{number}" for number in range(3)]
    raw = tmp_path / "raw" / cases.NAME
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for number, name in enumerate(names):
        image, target = heart((40, 36, 2), np.random.default_rng(number))
        Image.fromarray((image[..., 0] / 2).astype(np.uint8)).save(raw / "imagesTr" / f"{name}_0000.png")
        Image.fromarray(target[..., 0]).save(raw / "labelsTr" / f"{name}.png")
    labels = {"background": 0, "LV": 1, "Myo": 2, "ignore": 3}
    about = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": 3, "file_ending": ".png"}
    (raw / "dataset.json").write_text(json.dumps(about))
    write_splits_final(tmp_path / "preprocessed" / cases.NAME / "splits_final.json", [(names[:2], names[2:])])
    cases.ask(tmp_path, "constraints:\n  - size: {class: LV, between: [5, 90], unit: px}\n")
    cases.ask(tmp_path, "constraints: []\n", "nothing")
    cases.plan(tmp_path, {"2d": SHAPES["2d"]})
    training = cases.trainer_of(named("nnUNetTrainerBoundseg_nothing"), tmp_path, "2d")
    training.on_train_start()
    training.on_train_epoch_start()
    assert np.isfinite(training.train_step(next(training.dataloader_train))["loss"])
    bounded = cases.trainer_of(named("nnUNetTrainerBoundseg"), tmp_path, "2d")
    with pytest.raises(DatasetError) as told:
        bounded.on_train_start()
    (problem,) = told.value.problems
    assert problem.what == "tile0: it is not known how NaturalImage2DIO turns the axes of a file."
    assert problem.remedy.endswith("which read NIfTI, NRRD and MetaImage.")
