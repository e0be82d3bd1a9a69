"""The demo: every step a real verb's, from synthetic hearts to a table and a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from boundseg.data.check import check
from boundseg.data.dataset import Dataset
from boundseg.demo import TRAININGS, DemoResult, run_demo, write_hearts
from boundseg.errors import RunError
from boundseg.training.run import Run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult, list[str]]:
    """A quick demo: its folder, what it returned and what it said."""
    folder, said = tmp_path_factory.mktemp("demo") / "demo", list[str]()
    return folder, run_demo(folder, quick=True, device="cpu", quiet=True, say=said.append), said


Demo = tuple[Path, DemoResult, list[str]]


def test_it_leaves_a_table_and_a_picture(demo: Demo) -> None:
    folder, result, said = demo
    assert [row["training"] for row in result.rows] == list(TRAININGS)
    lines = (folder / "table.md").read_text().splitlines()
    assert len(lines) == 2 + len(TRAININGS)
    for line, row in zip(lines[2:], result.rows, strict=True):
        assert line == "| " + " | ".join(row.values()) + " |"
    assert result.picture == folder / "predictions.png"
    assert min(matplotlib.image.imread(result.picture).shape[:2]) > 300
    assert len(said) == 1 + len(TRAININGS)
    assert result.report == folder / "report.html"
    page = result.report.read_text(encoding="utf-8")
    assert all(name in page for name in ("partial_ce", "full_masks", "size_bounds", "tags"))


def test_its_trainings_differ_in_what_they_are_told_alone(demo: Demo) -> None:
    folder, _, _ = demo
    runs = [Run.open(path) for path in sorted((folder / "runs").iterdir())]
    assert len(runs) == len(TRAININGS)
    taught = [run.config.supervision for run in runs]
    assert all(taught.count(one) == 1 for one in taught)
    (rest,) = {run.config.model_copy(update={"supervision": []}).dump() for run in runs}
    assert "seed: 0" in rest
    for run in runs:
        assert (run.folder / "evaluation" / "volumes.csv").is_file()
        assert len(list((run.folder / "predictions").iterdir())) == 2


def test_its_dataset_has_no_problem(demo: Demo) -> None:
    folder, _, _ = demo
    dataset = Dataset.open(folder / "hearts")
    assert check(dataset).problems == []
    for case in dataset.cases:
        _, image = dataset.read_image(case)
        target = dataset.read_labels(case, "full", image)
        assert np.issubdtype(image.array.dtype, np.integer)
        assert 0 < (target == 1).sum() < 0.1 * target.size


def test_hearts_are_the_same_every_time(demo: Demo, tmp_path: Path) -> None:
    folder, _, _ = demo
    again = write_hearts(tmp_path / "hearts", {"train": 2, "validation": 1, "test": 1})
    assert again.fingerprint() == Dataset.open(folder / "hearts").fingerprint()
    case = again.cases[0]
    assert np.array_equal(again.read_image(case)[0], Dataset.open(folder / "hearts").read_image(case)[0])


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="exists and is no demo's folder"):
        run_demo(tmp_path, quick=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_earlier_demo_is_replaced(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "boundseg-demo").touch()
    (folder / "predictions.png").write_text("old")

    class BegunError(Exception):
        pass

    def begun(*_: object) -> None:
        raise BegunError

    monkeypatch.setattr("boundseg.demo.write_hearts", begun)
    with pytest.raises(BegunError):
        run_demo(folder, quick=True, say=lambda text: None)
    assert [path.name for path in folder.iterdir()] == ["boundseg-demo"]
