"""The report: complete, self-contained, and only of what belongs together."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from boundseg.errors import InputError
from boundseg.report import plots
from boundseg.report.collect import collect
from boundseg.report.page import bracket, differences, report, steadiness

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def written(runs: list[Path], tmp_path: Path) -> tuple[str, Page]:
    text = report(runs, tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def refused(runs: list[Path], tmp_path: Path) -> str:
    with pytest.raises(InputError) as caught:
        report(runs, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    return str(caught.value)


def test_it_is_one_file_that_needs_no_other_and_no_network(runs: list[Path], tmp_path: Path) -> None:
    text, page = written(runs, tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in page.targets)
    assert "default-src 'none'" in text  # the browser itself refuses to fetch anything
    assert "<script src" not in text
    assert "@import" not in text
    anchors = [target[1:] for target in page.targets if target.startswith("#") and "#case=" not in target]
    assert set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_every_part_is_there(runs: list[Path], tmp_path: Path) -> None:
    text, page = written(runs, tmp_path)
    assert page.headings == [
        "Results",
        "Viewer",
        "Cases",
        "Over the epochs",
        "Spread over cases",
        "Bounds",
        "By the true size",
        "Slices",
        "What differs between the configs",
        "Run again",
    ]
    for words in (
        "validation: 2 cases of 1 patients",
        "individual - partial",
        "weak labels: seeds",
        "size LV individual per slice in px",
        "size LV volume per volume in mL",
        "supervision.0.constraints.0.size.set",
        "boundseg evaluate NEW_FOLDER --cases validation",
        "most different",
        "last 1 of 2",
    ):
        assert words in page.text, words
    assert text.count("<svg") == 4 + 2 * 2 + 2  # curves, two plots a class, the bounds of one run's two constraints


def test_one_run_has_nothing_to_be_compared_with(runs: list[Path], tmp_path: Path) -> None:
    _, page = written(runs[:1], tmp_path)
    assert "What differs between the configs" not in page.headings
    assert "Do the runs differ" not in page.text


def test_figures_are_well_formed_and_take_the_pages_colour(runs: list[Path], tmp_path: Path) -> None:
    text, _ = written(runs, tmp_path)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
        assert "currentColor" in svg
        assert "#010203" not in svg


def test_the_same_runs_give_the_same_figures(runs: list[Path], tmp_path: Path) -> None:
    once, _ = written(runs, tmp_path)
    again, _ = written(runs, tmp_path)
    assert re.findall(r"<svg.*?</svg>", once, re.DOTALL) == re.findall(r"<svg.*?</svg>", again, re.DOTALL)


def test_names_are_escaped(runs: list[Path], tmp_path: Path) -> None:
    odd = runs[0].rename(runs[0].with_name("a<b>&c"))
    text, _ = written([odd], tmp_path)
    assert "a<b>" not in text
    assert "a&lt;b&gt;&amp;c" in text


def test_without_the_dataset_or_the_predictions_the_rest_is_shown(runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[1] / "predictions")
    _, page = written(runs, tmp_path)
    assert "individual, DSC" in page.text
    assert "partial, DSC" not in page.text
    for run in runs:
        about = json.loads((run / "evaluation" / "about.json").read_text())
        (run / "evaluation" / "about.json").write_text(json.dumps(about | {"dataset": str(tmp_path / "gone")}))
    _, page = written(runs, tmp_path)
    assert "No slices are shown, since the dataset cannot be read: dataset.json is not there." in page.text


def rewrite(run: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = run / "evaluation" / f"{name}.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_runs_judged_on_other_cases_classes_or_references_are_refused(runs: list[Path], tmp_path: Path) -> None:
    original = runs[1] / "evaluation" / "volumes.csv"
    kept = original.read_text()
    rewrite(runs[1], "volumes", lambda rows: rows[rows["case"] != "patient4_frame07"])
    assert "cannot be compared: 1 cases were judged in one of them only (patient4_frame07)" in refused(runs, tmp_path)
    original.write_text(kept)
    rewrite(runs[1], "volumes", lambda rows: rows[rows["class"] != "Myo"])
    assert "they were judged on the classes LV, Myo and LV" in refused(runs, tmp_path)
    original.write_text(kept)
    rewrite(runs[1], "volumes", lambda rows: rows.assign(reference_px=rows["reference_px"] + 1))
    message = refused(runs, tmp_path)
    assert "the references of 2 cases have other sizes (patient4_frame01, patient4_frame07)" in message
    assert "Evaluate all of them on the same cases of one dataset" in message


def test_runs_judged_by_another_convention_are_refused_and_the_page_says_by_which(
    runs: list[Path], tmp_path: Path
) -> None:
    assert "a class that neither side has" in written(runs, tmp_path)[1].text
    for run in reversed(runs):
        about = json.loads((run / "evaluation" / "about.json").read_text())
        (run / "evaluation" / "about.json").write_text(json.dumps(about | {"empty": "one"}))
        if run == runs[1]:
            message = refused(runs, tmp_path)
            assert "both empty is nan in individual and one in partial" in message
            assert "boundseg evaluate RUN... --empty nan" in message
    _, page = written(runs, tmp_path)
    assert "a class that neither side has" not in page.text
    assert "the DSC counts as 1" in page.text


def test_a_run_that_learned_from_the_judged_patients_is_refused(runs: list[Path], tmp_path: Path) -> None:
    path = runs[1] / "environment.json"
    content = json.loads(path.read_text())
    assert content["patients"] == {"train": ["patient1", "patient2", "patient3"], "validation": ["patient4"]}
    content["patients"]["train"].append("patient4")
    path.write_text(json.dumps(content))
    assert "partial learned from patient4, on whom the runs are judged." in refused(runs, tmp_path)


def test_runs_without_checkpoint_or_evaluation_are_all_listed(runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[0] / "checkpoints")
    (runs[1] / "evaluation" / "about.json").unlink()
    message = refused([*runs, tmp_path / "nowhere"], tmp_path)
    assert "individual has no checkpoint.\n  Train it, go on with --resume, or leave it out." in message
    assert "partial has not been evaluated: about.json is not there." in message
    assert f"Run: boundseg evaluate {runs[1]} --cases test" in message
    assert "nowhere is no run folder" in message


@pytest.mark.parametrize("name", ["about.json", "volumes.csv", "slices.csv", "constraints.csv"])
def test_a_torn_evaluation_is_named(runs: list[Path], tmp_path: Path, name: str) -> None:
    (runs[0] / "evaluation" / name).write_text("{")
    message = refused(runs, tmp_path)
    assert f"the evaluation of {runs[0]} cannot be read" in message
    assert f"Run: boundseg evaluate {runs[0]}" in message


@pytest.mark.parametrize("name", ["environment.json", "metrics.csv"])
def test_a_torn_file_of_the_run_is_named(runs: list[Path], tmp_path: Path, name: str) -> None:
    path = runs[0] / name
    path.write_text(path.read_text()[: -len(path.read_text()) // 3])
    assert f"{name} of the run cannot be read" in refused(runs, tmp_path)


def test_a_folder_is_named_once(runs: list[Path], tmp_path: Path) -> None:
    assert "is named more than once" in refused([runs[0], runs[0]], tmp_path)


def test_differences_of_configs_are_by_key_and_count_what_is_missing() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "list": [{"x": 1}], "same": 3, "none": None}
    other = {"a": {"b": 2, "c": [1, 2]}, "list": [{"x": 1}, {"x": 5}], "same": 3}
    assert differences({"one": one, "other": other}) == [
        {"key": "a.b", "one": "1", "other": "2"},
        {"key": "list.1.x", "one": "-", "other": "5"},
    ]


def test_a_bracket_keeps_the_interval_and_what_is_undefined() -> None:
    assert bracket("0.75 (0.7 to 0.8; n = 32)") == ("0.75", "0.7 to 0.8")
    assert bracket("-0.7 (-0.7 to +0.8; n = 274, 4 undefined)") == ("-0.7", "-0.7 to +0.8; 4 undefined")
    assert bracket("0.5 (n = 2, 1 undefined)") == ("0.5", "1 undefined")
    assert bracket("+0.5 (-0.1 to +1.1)") == ("+0.5", "-0.1 to +1.1")
    assert bracket("0.5 (n = 2)") == ("0.5", "")
    assert bracket("NaN (n = 0)") == ("NaN", "")
    assert bracket("best (epoch 4)") == ("best", "epoch 4")


@pytest.mark.parametrize("name", ["LV (blood)", "size LV (blood) individual (entry 2)", "best (of 4)", "7 (old)", ""])
def test_a_name_with_brackets_stays_whole(name: str) -> None:
    assert bracket(name) == (name, "")


LONG = "scribbles and nothing else at all, lr 5e-4, seed 0, second try (fold 3 of 5)"
ODD = ["a$b_$c", "_hidden", "x_$\\frac{$", "心臓 run", LONG]


def test_runs_of_any_name_are_in_every_legend() -> None:
    figures = [
        plots.curves({name: [(0, 2.0), (1, 3.0)] for name in ODD}, "DSC", log=True),
        plots.boxes({name: [0.1, 0.2] for name in ODD}, "DSC"),
        plots.against_truth({name: [(1.0, 2.0)] for name in ODD}, "mL"),
    ]
    for svg in figures:
        words = unescape(svg)
        for name in ODD[:4]:
            assert name in words
        assert "scribbles an" in words
        assert "3 of 5)" in words
        assert "#000000" not in svg, "black would not be seen on a dark page"
    assert plots.shortened(["a" * 60, "a" * 70], 20) == ["1: aaaaaaaaa…aaaaaaaaa", "2: aaaaaaaaa…aaaaaaaaa"]


def test_a_single_bound_has_a_band() -> None:
    row = pd.DataFrame({"lower": [10.0], "upper": [20.0], "soft": [12.0]})
    svg = plots.against_bounds(row, "px", links=["#case=a&slice=0"])
    (band,) = re.findall(r'PolyCollection_1.*? d="(.*?)"', svg, re.DOTALL)
    across = [float(x) for x in re.findall(r"[ML] (\S+)", band)]
    assert np.ptp(across) > 100
    assert 'xlink:href="#case=a&amp;slice=0"' in svg


def test_a_training_of_a_few_epochs_says_no_deviation_of_its_last_one(runs: list[Path]) -> None:
    judged = [replace(one, metrics=one.metrics[:1]) for one in collect(runs[:1])]
    (row,) = steadiness(judged)
    assert row["epochs"] == "last 1 of 1"
    assert row["standard deviation"] == "-"
