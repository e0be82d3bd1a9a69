"""A dataset folder for nnU-Net, and nnU-Net's splits in and out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from boundseg.data import volume_io
from boundseg.data.convert.nnunet import convert_nnunet, read_splits_final, splits_from_nnunet
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError
from tests.conftest import IGNORE, CommandLine


def test_the_chosen_labels_lie_where_nnunet_looks(tiny_dataset: Path, tmp_path: Path) -> None:
    source, folder = Dataset.open(tiny_dataset), tmp_path / "Dataset027_HEARTS"
    missing = tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz"
    missing.unlink()
    (tiny_dataset / "boundseg.yaml").write_text("constraints: []\n")
    written = convert_nnunet(source, folder, "seeds", "full")
    assert written.unlabelled == ["patient1_frame01"]
    found = Dataset.open(folder)
    assert found.training_cases == tuple(sorted(written.train + written.held_out)) == source.training_cases
    assert set(found.cases) - set(found.training_cases) == set(written.test)
    assert found.ignore == IGNORE == json.loads((folder / "dataset.json").read_text())["labels"]["ignore"]
    same = {"patient2_frame01": "seeds", "patient4_frame01": "full"}  # of those that train, of those that are held out
    for case, name in same.items():
        labels, image = nib.load(found.label_path(case)), nib.load(source.image_paths(case)[0])
        assert np.array_equal(labels.dataobj, nib.load(source.label_path(case, name)).dataobj)
        assert np.allclose(labels.affine, image.affine)
    nothing = nib.load(found.label_path("patient1_frame01"))
    assert np.unique(nothing.dataobj).tolist() == [IGNORE]
    assert nothing.shape == nib.load(source.image_paths("patient1_frame01")[0]).shape
    assert read_splits_final(folder / "splits_final.json") == [(sorted(written.train), sorted(written.held_out))]
    for name in ("priors.csv", "splits.json", "boundseg.yaml"):
        assert (folder / name).read_bytes() == (tiny_dataset / name).read_bytes()


def test_volumes_of_two_files_become_one_that_nnunet_reads(tiny_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    for path in sorted(tiny_dataset.glob("*T[rs]*/*.nii.gz")):
        volume = volume_io.read(path)
        volume_io.write(path.with_name(path.name.replace(".nii.gz", ".mhd")), volume.array, volume)
        path.unlink()
    description = tiny_dataset / "dataset.json"
    description.write_text(description.read_text().replace(".nii.gz", ".mhd"))
    (tiny_dataset / "labelsTr_seeds" / "patient1_frame01.mhd").unlink()
    source, folder = Dataset.open(tiny_dataset), tmp_path / "Dataset027_HEARTS"
    convert_nnunet(source, folder, "seeds", "full")
    found = Dataset.open(folder)
    assert (found.file_ending, found.cases) == (".mha", source.cases)
    assert {path.suffix for path in folder.glob("*T[rs]/*")} == {".mha"}
    for case in source.cases:
        (stored, image), (expected, like) = found.read_image(case), source.read_image(case)
        assert np.array_equal(stored, expected)
        assert np.allclose(image.affine, like.affine)
        found.read_labels(case, "full", image)


@pytest.mark.parametrize(
    ("name", "labels", "told"),
    [
        ("HEARTS", "seeds", r"'HEARTS' is no name of nnU-Net's[\s\S]*Dataset027_ACDC"),
        ("Dataset027_HEARTS", "seed", r"no label set 'seed'[\s\S]*full, seeds"),
        ("Dataset001_THERE", "seeds", "exists and is not empty"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(
    tiny_dataset: Path, tmp_path: Path, name: str, labels: str, told: str
) -> None:
    there = tmp_path / "Dataset001_THERE" / "file"
    there.parent.mkdir()
    there.touch()
    with pytest.raises(DatasetError, match=told):
        convert_nnunet(Dataset.open(tiny_dataset), tmp_path / name, labels)
    assert {path.name for path in tmp_path.iterdir()} == {"hearts", "Dataset001_THERE"}


def test_a_fold_of_nnunet_becomes_train_and_validation(tiny_dataset: Path, tmp_path: Path) -> None:
    source, path = Dataset.open(tiny_dataset), tmp_path / "splits_final.json"
    of = source.splits.patients
    folds = [
        {"train": [*of["patient2"], *of["patient3"], *of["patient4"]], "val": of["patient1"]},
        {"train": of["patient2"], "val": of["patient1"][:1]},
    ]
    path.write_text(json.dumps(folds))
    splits_from_nnunet(source, path)
    lists = Dataset.open(tiny_dataset).splits.lists
    assert lists["train"] == ["patient2", "patient3", "patient4"]
    assert lists["validation"] == ["patient1"]
    assert lists["test"] == ["patient5"]
    assert lists["few"] == ["patient1"], "other lists stay"
    assert (lists["fold0_train"], lists["fold0_validation"]) == (lists["train"], lists["validation"])
    assert (lists["fold1_train"], lists["fold1_validation"]) == (["patient2"], ["patient1_frame01"])
    splits_from_nnunet(Dataset.open(tiny_dataset), path, 1)
    one = Dataset.open(tiny_dataset).splits.lists
    assert one["validation"] == ["patient1_frame01"]
    assert one["fold0_train"] == lists["fold0_train"], "and what an earlier call wrote"


def test_every_fold_is_a_list_by_its_name_and_those_of_another_file_go(tiny_dataset: Path, tmp_path: Path) -> None:
    source, path = Dataset.open(tiny_dataset), tmp_path / "splits_final.json"
    of = source.splits.patients
    path.write_text(json.dumps([{"train": of["patient2"], "val": of[name]} for name in ("patient1", "patient3")]))
    splits_from_nnunet(source, path)
    opened = Dataset.open(tiny_dataset)
    assert opened.cases_of("fold1_train") == of["patient2"]
    assert opened.cases_of("fold1_validation") == of["patient3"]
    path.write_text(json.dumps([{"train": of["patient3"], "val": of["patient2"]}]))
    splits_from_nnunet(opened, path)
    lists = Dataset.open(tiny_dataset).splits.lists
    assert lists["fold0_train"] == ["patient3"]
    assert not any(name.startswith("fold1_") for name in lists)


def test_every_fold_is_looked_at_before_one_is_taken(tiny_dataset: Path, tmp_path: Path) -> None:
    source, path = Dataset.open(tiny_dataset), tmp_path / "splits_final.json"
    before = (tiny_dataset / "splits.json").read_bytes()
    a, b = source.splits.patients["patient1"]
    path.write_text(json.dumps([{"train": [a, b], "val": []}, {"train": [a], "val": [b]}]))
    with pytest.raises(DatasetError, match=r"patient1 is on two sides[\s\S]*splits_final.json, fold 1"):
        splits_from_nnunet(source, path)
    assert (tiny_dataset / "splits.json").read_bytes() == before
    splits_from_nnunet(source, path, 0)
    assert Dataset.open(tiny_dataset).splits.lists["train"] == ["patient1"]


def test_splits_that_do_not_fit_change_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    source, path = Dataset.open(tiny_dataset), tmp_path / "splits_final.json"
    before = (tiny_dataset / "splits.json").read_bytes()
    a, b = source.splits.patients["patient1"]
    for content, told in (
        ([{"train": [a], "val": [b]}], "patient1 is on two sides: train and validation"),
        ([{"train": ["stranger"], "val": []}], "no case of .*imagesTr: stranger"),
        ([{"train": [a]}], "is not of nnU-Net's form"),
        ([{"train": [[a]], "val": [b]}], "is not of nnU-Net's form"),
        ([{"train": [1], "val": [b]}], "is not of nnU-Net's form"),
        ([{"train": [a, b], "val": [b]}], f"in train and in validation: {b}"),
        ([], "there is no fold 0"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match=told):
            splits_from_nnunet(source, path)
    path.write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        splits_from_nnunet(source, path)
    with pytest.raises(DatasetError, match=r"splits_final.json is not there[\s\S]*nnUNet_preprocessed"):
        splits_from_nnunet(source, tmp_path / "nowhere" / "splits_final.json")
    assert (tiny_dataset / "splits.json").read_bytes() == before


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"train": ["patient1"]}, ["belong to no patient: patient1_frame01, patient1_frame07, patient4_frame01"]),
        ({"test": ["patient4"]}, ["in validation and in test: patient4_frame01"]),
        (
            {"test": ["patient44"]},
            ["the list 'test' names 'patient44', which is no patient or case", "did you mean"],
        ),
    ],
)
def test_a_fold_that_the_dataset_cannot_take_whole_changes_nothing(
    tiny_dataset: Path, tmp_path: Path, splits: dict[str, object], told: list[str]
) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["patient1_frame01", "patient1_frame07"], "val": ["patient4_frame01"]}]))
    patients = Dataset.open(tiny_dataset).splits.patients if "test" in splits else {}
    (tiny_dataset / "splits.json").write_text(json.dumps({"patients": patients, **splits}))
    before = (tiny_dataset / "splits.json").read_bytes()
    with pytest.raises(DatasetError) as raised:
        splits_from_nnunet(Dataset.open(tiny_dataset), path)
    assert all(part in str(raised.value) for part in told)
    assert (tiny_dataset / "splits.json").read_bytes() == before


def test_the_verbs(
    tiny_dataset: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Dataset027_HEARTS"
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    code, told, _ = command_line("convert", "nnunet", tiny_dataset, folder, "--labels", "seeds")
    assert code == 0
    assert "6 cases train, 2 are held out, 2 test" in told.replace("\n", "")
    splits = tmp_path / "preprocessed" / folder.name / "splits_final.json"
    assert splits.read_bytes() == (folder / "splits_final.json").read_bytes()
    code, told, _ = command_line("convert", "nnunet-splits", splits, tiny_dataset, "--fold", 0)
    assert code == 0
    assert "train 6, validation 2, test 2" in told.replace("\n", " ")
    for arguments, remedy in (
        (("nnunet", tiny_dataset, tmp_path / "Dataset028_X"), "Add --labels"),
        (("nnunet", tiny_dataset, tmp_path / "Dataset028_X", "--labels", "seeds", "--seed", 1), "Leave them out"),
        (("acdc", tiny_dataset, tmp_path / "X", "--labels", "seeds"), "takes no --labels"),
        (("labels", tiny_dataset, tmp_path / "X", "--fold", 1), "takes no --fold"),
    ):
        code, _, told = command_line("convert", *arguments)
        assert code == 2
        assert remedy in told
