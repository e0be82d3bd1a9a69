"""Several runs as one, mirrored images, largest parts: by hand, and by MONAI."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import KeepLargestConnectedComponent

from boundseg.data.dataset import Dataset
from boundseg.errors import InputError, RunError
from boundseg.inference import Mirrored, largest_components, regions_named
from boundseg.training.loop import train
from boundseg.training.predict import predict
from boundseg.training.run import Run
from boundseg.training.together import together
from tests.cli.cases import Result, ok, refused, voxels
from tests.conftest import CommandLine

from .cases import entry, tiny


@pytest.fixture
def scan(trained: Run) -> tuple[np.ndarray, tuple[float, float, float]]:
    dataset = Dataset.open(trained.config.data.folder)
    image, volume = dataset.read_image("patient5_frame01")
    return dataset.to_slices(image), dataset.slice_spacing_mm(volume)


@pytest.fixture
def spare(trained: Run, shelf: dict[str, Run], tmp_path_factory: Any) -> Run:
    """A run on another grid, with outputs to spare."""
    if "spare" not in shelf:
        folder = tmp_path_factory.mktemp("spare")
        shutil.copytree(trained.config.data.folder, folder / "hearts")
        config = tiny(
            folder / "hearts",
            entry("full"),
            data={"size": [32, 32], "fit": "resize"},
            network={"name": "residual_unet", "width": 4, "spare_outputs": 2},
        )
        shelf["spare"] = train(config, folder / "run", device="cpu", quiet=True)
    return shelf["spare"]


def test_probabilities_are_averaged_on_the_scans_own_grid(trained: Run, spare: Run, scan: Any) -> None:
    image, spacing_mm = scan
    first, second = (run.predictor()(image, spacing_mm) for run in (trained, spare))
    second[0] += second[3:].sum(0)
    expected = (first + second[:3]) / 2
    parts = list(together([trained, spare]).restored(image, spacing_mm))
    found = torch.cat(parts).numpy().swapaxes(0, 1)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-6)


def test_one_run_twice_is_that_run(trained: Run, scan: Any) -> None:
    image, spacing_mm = scan
    alone = trained.predictor().labels(image, spacing_mm, 3)
    assert np.array_equal(together([trained, trained]).labels(image, spacing_mm, 3), alone)


def test_runs_of_other_classes_are_refused(trained: Run, spare: Run, tmp_path: Path) -> None:
    shutil.copytree(spare.folder, tmp_path / "other")
    path = tmp_path / "other" / "environment.json"
    path.write_text(path.read_text().replace('"Myo"', '"RV"').replace('"MR0"', '"CT"'))
    with pytest.raises(RunError) as caught:
        together([trained, Run.open(tmp_path / "other")])
    assert [problem.what for problem in caught.value.problems] == [
        f"{tmp_path / 'other'} has the classes background 0, LV 1, RV 2, {trained.folder} has "
        "background 0, LV 1, Myo 2.",
        f"{tmp_path / 'other'} has the channels CT, {trained.folder} has MR0.",
    ]


def test_mirrored_is_the_mean_over_flips_by_hand(trained: Run) -> None:
    network = trained.trained().eval()
    images = torch.randn(2, 1, 24, 24)
    with torch.no_grad():
        turned = [network(images.flip(axes)).softmax(1).flip(axes) for axes in ((), (2,), (3,), (2, 3))]
        assert torch.allclose(Mirrored(network)(images).softmax(1), torch.stack(turned).mean(0), atol=1e-6)
        again = Mirrored(network)(images.flip(3)).softmax(1).flip(3)
        assert torch.allclose(Mirrored(network)(images).softmax(1), again, atol=1e-6)
        one = Mirrored(torch.nn.Conv2d(1, 1, 1))(images)
    assert one.shape[1] == 2
    assert one.isfinite().all()


@pytest.mark.parametrize("regions", [[(1,)], [(1,), (2,)], [(1, 2)]])
def test_the_largest_part_is_monais(regions: list[tuple[int, ...]]) -> None:
    labels = np.random.default_rng(0).choice(3, (6, 9, 10), p=[0.8, 0.1, 0.1]).astype(np.uint8)
    applied = [list(region) for region in regions] if len(regions[0]) > 1 else [region[0] for region in regions]
    keep = KeepLargestConnectedComponent(
        applied[0] if len(regions[0]) > 1 else applied, independent=len(regions[0]) == 1
    )
    expected = np.asarray(keep(torch.from_numpy(labels[None]).long()))[0]
    assert np.array_equal(largest_components(labels, regions), expected)


def test_nothing_to_keep_changes_nothing() -> None:
    labels = np.zeros((2, 3, 3), np.uint8)
    assert np.array_equal(largest_components(labels, [(1,)]), labels)
    labels[:] = 1
    assert np.array_equal(largest_components(labels, [(1,)]), labels)
    assert regions_named(["all", "LV+Myo"], {"background": 0, "LV": 1, "Myo": 2}) == [(1,), (2,), (1, 2)]


def test_from_the_command_line_and_in_python(
    trained: Run, spare: Run, tmp_path: Path, command_line: CommandLine
) -> None:
    scans = trained.config.data.folder / "imagesTs"
    options = ("--mirror", "--largest-component", "all")
    out = ok(Result(*command_line("predict", trained.folder, scans, "--out", tmp_path / "one", *options))).out
    assert "2 label maps" in out
    dataset = Dataset.open(trained.config.data.folder)
    for case in ("patient5_frame01", "patient5_frame07"):
        array, image = dataset.read_image(case)
        own = trained.predict(array, image.spacing_mm, mirror=True, largest_component=["all"])
        assert np.array_equal(voxels(tmp_path / "one" / f"{case}.nii.gz"), own)
        plain = trained.predict(array, image.spacing_mm, mirror=True)
        assert np.array_equal(own, np.moveaxis(largest_components(np.moveaxis(plain, 2, 0), [(1,), (2,)]), 0, 2))
    runs = (trained.folder, spare.folder)
    ok(Result(*command_line("predict", *runs, scans, "--out", tmp_path / "both", "--probabilities")))
    predict([trained, spare], [scans], tmp_path / "python", probabilities=True)
    for path in sorted((tmp_path / "both").iterdir()):
        assert path.read_bytes() == (tmp_path / "python" / path.name).read_bytes()
    refused(Result(*command_line("predict", *runs, "--out", tmp_path / "none")), "there is nothing to predict.")
    refused(
        Result(*command_line("predict", *runs, scans, "--out", tmp_path / "none", "--largest-component", "LW")),
        "--largest-component LW: 'LW' is no class",
    )
    refused(Result(*command_line("predict", scans, "--out", tmp_path / "none")), "is no run folder")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="'LW' is no class"):
        trained.predict(array, image.spacing_mm, largest_component=["LW"])
