"""What is packed for the viewer: every layer as its file has it, measures and bounds as the evaluation has them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from boundseg.data.dataset import Dataset
from boundseg.errors import InputError
from boundseg.report.collect import collect
from boundseg.report.packing import unpack_labels
from boundseg.report.page import report
from boundseg.report.slices import shown_slices
from boundseg.report.viewer import address, build, case_rows
from boundseg.training.run import Run

CASE = "patient4_frame01"


def hearts(runs: list[Path]) -> Path:
    return Run.open(runs[0]).config.data.folder


def test_layers_are_those_of_the_files(runs: list[Path]) -> None:
    dataset = Dataset.open(hearts(runs))
    viewer = build(collect(runs), dataset, 1e9)
    assert [layer["name"] for layer in viewer.index["layers"]] == [
        "weak labels: seeds",
        "reference",
        "individual",
        "partial",
    ]
    assert [(one["name"], one["taught"]) for one in viewer.index["cases"]][:3] == [
        (CASE, False),
        ("patient4_frame07", False),
        ("patient1_frame01", True),
    ]
    files = {
        CASE: {1: dataset.label_path(CASE), 2: runs[0] / "predictions" / f"{CASE}.nii.gz"},
        "patient1_frame01": {
            0: dataset.label_path("patient1_frame01", "seeds"),
            1: dataset.label_path("patient1_frame01"),
        },
    }
    for case, layers in files.items():
        data = json.loads(viewer.cases[case])
        _, rows, columns = data["shape"]
        for number, path in layers.items():
            array = dataset.to_slices(np.asarray(nib.load(path).dataobj))
            read = [unpack_labels(text, (rows, columns)) for text in data["layers"][number]]
            assert np.array_equal(read, array), (case, path)
    # who taught has no predictions
    assert json.loads(viewer.cases["patient1_frame01"])["layers"][2:] == [None, None]
    assert data["spacing_mm"] == pytest.approx([1.3, 1.5, 8.0])


def test_red_green_and_blue_are_shown_together_and_of_other_channels_the_first(runs: list[Path]) -> None:
    dataset, image = Dataset.open(hearts(runs)), np.random.default_rng(0).random((3, 5, 6, 2)).astype(np.float32)
    pictures = shown_slices(replace(dataset, channels=("Red", "green", "blue")), image)
    assert pictures.shape == (*dataset.to_slices(image[0]).shape, 3)
    for channel in range(3):
        assert np.array_equal(pictures[..., channel], dataset.to_slices(image[channel]))
    assert np.array_equal(
        shown_slices(replace(dataset, channels=("T2", "ADC", "DWI")), image), dataset.to_slices(image[0])
    )


def test_bounds_and_measures_are_the_evaluations(runs: list[Path]) -> None:
    judged = collect(runs)
    viewer = build(judged, Dataset.open(hearts(runs)), 1e9, [CASE])
    assert list(viewer.cases) == [CASE]
    data = json.loads(viewer.cases[CASE])
    table = judged[0].evaluation.constraints
    known = table[(table["case"] == CASE) & table["known"]]
    assert [row[7] for row in data["bounds"][0]] == known["hard_kept"].tolist()
    assert [row[5] for row in data["bounds"][0]] == pytest.approx(known["hard"].tolist(), rel=1e-5)
    assert data["bounds"][1] == []  # of a run that was not told any
    volumes = judged[1].evaluation.volumes
    assert [row[3] for row in data["measures"][1][:2]] == volumes[volumes["case"] == CASE]["predicted_px"].tolist()
    (row,) = [row for row in case_rows(judged) if row["case"] == CASE]
    assert row["cells"][2]["text"] == f"{(~known['hard_kept']).sum()} of {len(known)}"


def test_what_has_no_room_is_left_out_and_named(runs: list[Path], tmp_path: Path) -> None:
    dataset = Dataset.open(hearts(runs))
    everything = build(collect(runs), dataset, 1e9)
    room = max(map(len, everything.cases.values()))
    less = build(collect(runs), dataset, room)
    assert 1 <= len(less.cases) < len(everything.cases)
    assert sum(map(len, less.cases.values())) <= room
    assert sorted([*less.cases, *less.left_out]) == sorted(everything.cases)
    full = report(runs, tmp_path / "full.html").read_text(encoding="utf-8")
    small = report(runs, tmp_path / "small.html", megabytes=0).read_text(encoding="utf-8")
    assert 'id="viewer"' in full
    assert len(full.encode()) < 15e6
    assert 'id="viewer"' not in small
    assert 'href="#case=' not in small


def test_only_the_cases_that_are_asked_for(runs: list[Path], tmp_path: Path) -> None:
    text = report(runs, tmp_path / "page.html", cases=CASE).read_text(encoding="utf-8")
    assert re.findall('data-case="(.*?)"', text) == [CASE]
    with pytest.raises(InputError, match="'nobody' is no list, patient or case"):
        report(runs, tmp_path / "none.html", cases="nobody")
    with pytest.raises(InputError, match="--megabytes -1 is no size"):
        report(runs, tmp_path / "none.html", megabytes=-1)
    assert not (tmp_path / "none.html").exists()


def test_links_lead_to_what_is_there(runs: list[Path], tmp_path: Path) -> None:
    text = report(runs, tmp_path / "page.html", cases=CASE).read_text(encoding="utf-8")
    assert {unescape(link).split("&")[0] for link in re.findall('href="(#case=.*?)"', text)} == {f"#case={CASE}"}
    (index,) = re.findall('id="viewer-index">(.*?)</script>', text)
    assert "patient4_frame07" in json.loads(index)["not_asked"]
    assert "Only the cases of <code>boundseg report --cases</code> are here." in text
    options: dict[str, Any]
    for options, why in (
        ({"cases": "patient5"}, "There is no viewer, since patient5 was not judged here."),
        ({"megabytes": 0.2}, "There is no viewer, since no case has room: the page is limited by --megabytes 0.2."),
    ):
        text = report(runs, tmp_path / "page.html", **options).read_text(encoding="utf-8")
        assert why in text
        assert 'href="#case=' not in text
        assert 'id="viewer"' not in text
    with pytest.raises(InputError, match="'' is no list, patient or case"):
        report(runs, tmp_path / "none.html", cases="")


def test_pictures_count_towards_the_size(runs: list[Path], tmp_path: Path) -> None:
    whole = report(runs, tmp_path / "page.html", megabytes=0).read_text(encoding="utf-8")
    bare = re.sub('data:image/png;base64,[^"]*', "", whole)
    limit = (len(bare.encode()) + 0.5 * (len(whole) - len(bare))) / 1e6
    page = tmp_path / "page.html"
    text = report(runs, page, megabytes=limit).read_text(encoding="utf-8")
    assert page.stat().st_size <= 1e6 * limit
    assert 0 < text.count('class="strip"') < whole.count('class="strip"')
    assert "slices have room: the page is limited by --megabytes" in text


def test_points_link_to_cases_slices_and_runs(runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[1] / "predictions")
    text = report(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    links = {unescape(link) for link in re.findall('xlink:href="(#case.*?)"', text)}
    assert address(CASE, run="individual") in links
    assert any(re.fullmatch(f"#case={CASE}&slice=[0-4]&run=individual", link) for link in links)
    assert 'target="_blank"' not in text


def test_a_case_without_a_reference_can_be_looked_at(runs: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hearts(runs), tmp_path / "copy"))
    (folder / "labelsTr" / f"{CASE}.nii.gz").unlink()
    data = json.loads(build(collect(runs), Dataset.open(folder), 1e9, [CASE]).cases[CASE])
    assert data["layers"][1] is None
    assert data["layers"][2] is not None
