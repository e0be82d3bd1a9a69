"""boundseg.yaml beside dataset.json: what it may say, and what is said where it is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from boundseg.data import priors
from boundseg.data.priors import Prior
from boundseg.errors import ConfigError, DatasetError, InputError, PriorsError
from boundseg.integrations.nnunet.settings import Asked, Settings, find
from tests.messages import plain_source

PAGE = Path(__file__).parents[2] / "docs" / "nnunet.md"
LABELS = {"background": 0, "LV": 1, "Myo": 2, "ignore": 3}


def description(**labels: Any) -> dict[str, Any]:
    return {"channel_names": {"0": "MR"}, "labels": labels or LABELS, "file_ending": ".nii.gz"}


def load(folder: Path, text: str, about: dict[str, Any] | None = None) -> Asked:
    (folder / "boundseg.yaml").write_text(text)
    rows = [
        Prior("a", 1, "LV", "size", 10, 20, "px", "report", "measured"),
        Prior("a", None, "LV", "size", 2, 3, "mL", "report", "measured"),
        Prior("test_case", None, "LV", "size", 2, 3, "mL", "report", "measured"),
        Prior("a", None, "Myo", "size", 0.1, 0.2, "fraction", "shares", "measured"),
        Prior("elsewhere", None, "Myo", "size", 2, 3, "mL", "report", "measured"),
    ]
    priors.write(folder / "priors.csv", rows)
    return Asked.load("nnUNetTrainerBoundseg", [folder], about or description(), ["a", "b"])


def test_a_set_is_looked_up_for_slices_and_volumes(tmp_path: Path) -> None:
    asked = load(tmp_path, "constraints:\n  - size: {class: LV, set: report}\nepochs: 7\n")
    slices, volumes = asked.demands
    assert slices.bounds("a", 3)[:, :, 0].tolist() == [
        [-float("inf"), 10, -float("inf")],
        [float("inf"), 20, float("inf")],
    ]
    assert volumes.bounds("a", 3).ravel().tolist() == [2, 3]
    assert not volumes.knows("b")
    assert asked.settings.epochs == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("constrains: []", "unknown key 'constrains'; did you mean 'constraints'|unknown key 'constrains'"),
        (
            "constraints:\n  - size: {clas: LV, set: report}",
            r"unknown key 'constraints.0.size.clas'; did you mean 'class'\?\n.*The keys there are: class, ",
        ),
        ("constraints: [", "is not valid YAML"),
        ("", "holds no keys"),
        ("epochs: 0", "epochs: "),
        ("constraints:\n  - size: {class: RV, set: report}", "'RV' is no class"),
        ("constraints:\n  - size: {class: LV, set: reprot}", "no row of the set 'reprot'"),
        (
            "constraints:\n  - size: {class: Myo, set: report}",
            r"nothing is known of any of the 2 cases\.\n.*without _0000: a\.",
        ),
        ("constraints:\n  - box: {class: LV}", "box is not offered with nnU-Net"),
        ("constraints:\n  - intensity: {class: LV, between: [1, 2]}", "does not keep by what it scaled them"),
        (
            "constraints:\n  - size: {class: LV, between: [1, 2], unit: grid_px}",
            "grid_px counts pixels of boundseg's own",
        ),
        ("constraints:\n  - size: {class: Myo, set: shares}", "fraction counts shares of a whole slice"),
        (
            "constraints:\n  - size: {class: LV, between: [1, 2]}\n  - size: {class: LV, between: [1, 3]}",
            "is asked twice",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load(tmp_path, text)


def test_a_dataset_without_an_ignore_label_is_one_of_full_masks_or_refused(tmp_path: Path) -> None:
    about = description(background=0, LV=1)
    with pytest.raises(DatasetError, match=r"no label 'ignore': whatever nobody labelled[\s\S]*labels: full"):
        load(tmp_path, "constraints: []", about)
    assert load(tmp_path, "labels: full", about).settings.labels == "full"


def test_regions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'heart' is a region of several labels"):
        load(tmp_path, "constraints: []", description(background=0, heart=[1, 2], LV=2, ignore=3))


def test_the_name_of_the_trainer_names_the_file_which_lies_in_one_folder(tmp_path: Path) -> None:
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    for folder in (raw, preprocessed):
        folder.mkdir()
    with pytest.raises(ConfigError, match=r"boundseg_tags.yaml is not there[\s\S]*raw or [\s\S]*preprocessed"):
        find("nnUNetTrainerBoundseg_tags", [raw, preprocessed])
    (preprocessed / "boundseg_tags.yaml").write_text("constraints: []")
    assert find("nnUNetTrainerBoundseg_tags", [raw, preprocessed]) == preprocessed / "boundseg_tags.yaml"
    (raw / "boundseg_tags.yaml").write_text("constraints: []")
    assert find("nnUNetTrainerBoundseg_tags", [raw, preprocessed]) == raw / "boundseg_tags.yaml"
    (raw / "boundseg_tags.yaml").write_text("epochs: 3")
    with pytest.raises(ConfigError, match="two folders with different content"):
        find("nnUNetTrainerBoundseg_tags", [raw, preprocessed])


def test_slices_that_lie_along_another_axis_than_preprocessed_are_refused(tmp_path: Path) -> None:
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    for folder, axis in ((raw, {"slice_axis": 0}), (preprocessed, {})):
        folder.mkdir()
        (folder / "dataset.json").write_text(json.dumps(description() | axis))
    (raw / "boundseg.yaml").write_text("constraints: []")
    with pytest.raises(DatasetError) as told:
        Asked.load("nnUNetTrainerBoundseg", [raw, preprocessed], description(), ["a"])
    assert told.value.problems[0].what == "slices lie along axis 0 in one dataset.json, and along axis 2 in another."
    assert str(raw / "dataset.json") in told.value.problems[0].where
    assert str(preprocessed / "dataset.json") in told.value.problems[0].where
    (preprocessed / "dataset.json").write_text(json.dumps(description() | {"slice_axis": -3}))
    Asked.load("nnUNetTrainerBoundseg", [raw, preprocessed], description(), ["a"])


def test_a_priors_csv_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "boundseg.yaml").write_text("constraints:\n  - size: {class: LV, set: report}")
    with pytest.raises(PriorsError, match=r"priors.csv is not there"):
        Asked.load("nnUNetTrainerBoundseg", [tmp_path], description(), ["a"])
    assert Settings().constraints == ()


def test_the_yaml_of_the_page_is_read(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.M | re.S)
    (tmp_path / "boundseg.yaml").write_text(block)
    assert len(Settings.load(tmp_path / "boundseg.yaml").constraints) == 3
    section = page.split("## boundseg.yaml")[1].split("\n## ")[0]
    table = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ", section, flags=re.M)
    assert {key.strip("`") for row in table for key in row.split(", ")} == set(Settings.model_fields)


def test_every_message_of_the_page_is_one_of_ours() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Messages")[1]
    messages = re.findall(r"^\| `(.+?)`", table, flags=re.M)
    for message in messages:  # what is filled in stands in braces, and as … or a number on the page
        fixed = [re.escape(words) for words in re.split(r"…|\b\d+\b", message)]
        assert re.search(r"(?:\{[^{}]+\}|\d+)".join(fixed), plain_source()), message
    assert len(messages) > 10
