"""Who is taught by what: each case by the first entry that names it, and by nothing that nobody said."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boundseg.data.batches import TaughtCase, order
from boundseg.data.dataset import Dataset
from boundseg.errors import ConfigError, DatasetError, InputError, PriorsError
from boundseg.training.supervision import Teaching, entries_of, teach

from .cases import INDIVIDUAL, TAGS, VOLUME, entry, tiny

NOTHING = (-math.inf, math.inf)


def taught(folder: Path, *entries: dict[str, Any], **sections: dict[str, Any]) -> Teaching:
    return teach(tiny(folder, *entries, **sections), Dataset.open(folder))


def pairs(case: TaughtCase, name: str) -> list[tuple[float, float]]:
    """A case's bounds for a constraint, one pair per slice or one for the volume."""
    lower, upper = case.bounds[name][..., 0].tolist()
    return list(zip(lower, upper, strict=True))


def by_case(teaching: Teaching) -> dict[str, TaughtCase]:
    return {case.prepared.case: case for case in teaching.train}


def slices_of(folder: Path, case: str, label_set: str) -> np.ndarray:
    dataset = Dataset.open(folder)
    return dataset.to_slices(dataset.read_labels(case, label_set, dataset.read_image(case)[1]))


def size(**keys: Any) -> dict[str, Any]:
    return {"size": {"class": "LV", **keys}}


def test_the_first_entry_that_names_a_case_wins(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)

    def found(*names: str | list[str]) -> dict[str, int]:
        return dict(entries_of(tiny(tiny_dataset, *(entry(cases=name) for name in names)), dataset))

    few = ["patient1_frame01", "patient1_frame07"]
    assert {case for case, index in found("few", "train").items() if index == 0} == set(few)
    assert set(found("train", "few").values()) == {0}
    assert found(["patient1_frame07", "patient2"], "few") == {
        "patient1_frame07": 0,
        "patient2_frame01": 0,
        "patient2_frame07": 0,
        "patient1_frame01": 1,
    }


def test_a_case_is_taught_again_by_the_next_entry_that_names_it(tiny_dataset: Path) -> None:
    again = entry("full", "few") | {"again": True}
    teaching = taught(tiny_dataset, again, entry("seeds", "train", [INDIVIDUAL]), entry("none", "train"))
    (constraint,) = teaching.constraints
    few = {"patient1_frame01", "patient1_frame07"}
    names = [case.prepared.case for case in teaching.train]
    assert {name for name in names if names.count(name) == 2} == few
    assert max(map(names.count, names)) == 2, "the last entry names nobody who is left"
    assert len({case.name for case in teaching.train}) == len(names), "each is a volume of its own"
    for name in few:
        full, weak = (case for case in teaching.train if case.prepared.case == name)
        assert pairs(full, constraint.name) == [NOTHING] * 5
        assert pairs(weak, constraint.name) != [NOTHING] * 5
        assert full.prepared is weak.prepared
    alone = taught(tiny_dataset, entry("full", "few"), entry("seeds", "train", [INDIVIDUAL]))
    shown = len(order(teaching.train, "slices", 1))
    assert shown == len(order(alone.train, "slices", 1)) + sum(len(by_case(alone)[name]) for name in few)


def test_each_case_carries_the_labels_and_bounds_of_its_entry_alone(tiny_dataset: Path) -> None:
    teaching = taught(tiny_dataset, entry("full", "few"), entry("seeds", "train", [INDIVIDUAL]))
    (constraint,) = teaching.constraints
    for name, case in by_case(teaching).items():
        full = name.startswith("patient1")
        on_file = slices_of(tiny_dataset, name, "full" if full else "seeds")
        # the grid pads the file's slices with the ignore label
        assert np.array_equal(np.unique(case.labels), np.unique([*np.unique(on_file), 3]))
        assert (case.labels != 3).sum() == (on_file != 3).sum()
        known = pairs(case, constraint.name)
        if full:
            assert known == [NOTHING] * 5
        else:
            sizes_px = (slices_of(tiny_dataset, name, "full") == 1).sum((1, 2))
            assert np.allclose(known, [(0.9 * s, 1.1 * s) for s in sizes_px], rtol=1e-5)


def test_held_out_cases_are_taught_as_the_last_entry_says(tiny_dataset: Path) -> None:
    teaching = taught(tiny_dataset, entry("full", "few"), entry("seeds", "train", [INDIVIDUAL]))
    assert [case.prepared.case for case in teaching.validation] == ["patient4_frame01", "patient4_frame07"]
    for case in teaching.validation:
        assert (case.labels == 3).mean() > 0.9
        assert np.isfinite(case.bounds[teaching.constraints[0].name]).all()
        assert "full" in case.prepared.labels  # for the DSC
    assert all("full" not in case.prepared.labels for case in teaching.train if "patient1" not in case.prepared.case)


def drop_rows(folder: Path, **like: str) -> None:
    """Removes the rows of priors.csv that hold these values."""
    path = folder / "priors.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if any(row[key] != value for key, value in like.items()))


def test_what_no_row_speaks_of_is_unknown(tiny_dataset: Path) -> None:
    drop_rows(tiny_dataset, case="patient2_frame01", set="individual")
    drop_rows(tiny_dataset, case="patient3_frame07", set="individual", slice="1")
    drop_rows(tiny_dataset, case="patient2_frame07", set="volume")
    teaching = taught(tiny_dataset, entry(constraints=[INDIVIDUAL, VOLUME]))
    sliced, whole = teaching.constraints
    assert (sliced.scope, whole.scope) == ("slice", "volume")
    assert teaching.volume_constraints == {whole.name}
    cases = by_case(teaching)
    assert pairs(cases["patient2_frame01"], sliced.name) == [NOTHING] * 5
    assert [pair == NOTHING for pair in pairs(cases["patient3_frame07"], sliced.name)] == [0, 1, 0, 0, 0]
    assert pairs(cases["patient2_frame07"], whole.name) == [NOTHING]
    assert NOTHING not in pairs(cases["patient2_frame01"], whole.name)


@pytest.mark.parametrize(
    ("given", "where_present", "where_absent"),
    [
        ({"present": [6, 90], "absent": [0, 0]}, (6, 90), (0, 0)),
        ({"present": [6, None]}, (6, math.inf), NOTHING),
        ({"absent": [None, 0]}, NOTHING, (-math.inf, 0)),
    ],
)
def test_present_and_absent_follow_the_tags(
    tiny_dataset: Path, given: dict[str, Any], where_present: Any, where_absent: Any
) -> None:
    teaching = taught(tiny_dataset, entry(constraints=[size(**given, unit="grid_px")]))
    (constraint,) = teaching.constraints
    assert constraint.descriptor.unit == "grid_px"  # type: ignore[attr-defined]
    for name, case in by_case(teaching).items():
        tagged = (slices_of(tiny_dataset, name, "seeds") == 1).any((1, 2))
        assert 0 < tagged.sum() < len(tagged)
        assert pairs(case, constraint.name) == [where_present if t else where_absent for t in tagged]


def test_a_slice_without_a_tag_knows_nothing_of_present_and_absent(tiny_dataset: Path) -> None:
    drop_rows(tiny_dataset, case="patient1_frame01", set="tags", slice="0")
    teaching = taught(tiny_dataset, entry(constraints=[size(present=[6, 90], absent=[0, 0])]))
    known = pairs(by_case(teaching)["patient1_frame01"], teaching.constraints[0].name)
    assert known[0] == NOTHING
    assert NOTHING not in known[1:]


def test_between_holds_everywhere_for_each_slice_or_for_each_volume(tiny_dataset: Path) -> None:
    asked = [size(between=[0, 80]), size(between=[1, None], per="volume", unit="mL")]
    teaching = taught(tiny_dataset, entry(constraints=asked))
    sliced, whole = teaching.constraints
    for case in [*teaching.train, *teaching.validation]:
        assert pairs(case, sliced.name) == [(0, 80)] * 5
        assert pairs(case, whole.name) == [(1, math.inf)]


def test_one_constraint_with_two_weights_becomes_two_with_names_of_their_own(tiny_dataset: Path) -> None:
    entries = [entry("seeds", "few", [size(set="individual", weight=1)]), entry("seeds", "train", [INDIVIDUAL])]
    teaching = taught(tiny_dataset, *entries)
    first, second = teaching.constraints
    assert first.name != second.name
    assert (first.weight, second.weight) == (1, 0.01)
    cases = by_case(teaching)
    assert pairs(cases["patient2_frame01"], first.name) == [NOTHING] * 5
    assert pairs(cases["patient1_frame01"], second.name) == [NOTHING] * 5
    assert NOTHING not in pairs(cases["patient1_frame01"], first.name)


def test_a_union_is_one_region(tiny_dataset: Path) -> None:
    teaching = taught(tiny_dataset, entry(constraints=[{"size": {"class": "LV+Myo", "between": [0, 9]}}]))
    assert teaching.constraints[0].regions == ((1, 2),)


@pytest.mark.parametrize(
    ("given", "kind", "facts"),
    [
        (
            entry(constraints=[{"size": {"class": "LVV", "set": "tags"}}]),
            ConfigError,
            ["'LVV' is no class of", "did you mean 'LV'?", "supervision.constraints.size.class"],
        ),
        (
            entry(constraints=[size(set="indvidual")]),
            PriorsError,
            [
                "no row of the set 'indvidual' on the size of LV; did you mean 'individual'?",
                "priors.csv",
                "The sets there are: individual, tags, volume.",
            ],
        ),
        (
            entry(constraints=[size(set="tags", **{"from": "prior.csv"})]),
            PriorsError,
            ["prior.csv is not there."],
        ),
        (
            entry(cases="trian"),
            DatasetError,
            ["'trian' is no list, patient or case; did you mean 'train'?", "The lists are: train, validation"],
        ),
        (
            entry(labels="seed"),
            ConfigError,
            ["there is no label set 'seed'; did you mean 'seeds'?", "The sets are: full, none, seeds."],
        ),
    ],
)
def test_unknown_names_name_the_nearest(
    tiny_dataset: Path, given: dict[str, Any], kind: type[InputError], facts: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        taught(tiny_dataset, given)
    for fact in facts:
        assert fact in str(caught.value)


def test_an_unknown_list_of_held_out_cases_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError, match="'validaton' is no list, patient or case; did you mean 'validation'"):
        taught(tiny_dataset, selection={"cases": "validaton"})


def test_held_out_cases_may_be_a_patient(tiny_dataset: Path) -> None:
    teaching = taught(tiny_dataset, entry(cases=["patient1", "patient2"]), selection={"cases": "patient3"})
    assert [case.prepared.case for case in teaching.validation] == ["patient3_frame01", "patient3_frame07"]


def test_an_empty_list_of_held_out_cases_is_none(tiny_dataset: Path) -> None:
    path = tiny_dataset / "splits.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"validation": []}))
    assert taught(tiny_dataset).validation == []


def test_a_patient_who_teaches_cannot_be_held_out(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        taught(tiny_dataset, entry(cases=["train", "patient4_frame01"]))
    assert "patient4 would both teach and be held out (validation)." in str(caught.value)
    assert "splits.json" in str(caught.value)


def test_selection_by_dice_needs_full_masks_of_held_out_cases(tiny_dataset: Path) -> None:
    for path in (tiny_dataset / "labelsTr").glob("patient4*"):
        path.unlink()
    assert taught(tiny_dataset).validation
    with pytest.raises(ConfigError, match=r"selection\.by: dice needs held-out cases with full masks"):
        taught(tiny_dataset, selection={"by": "dice"})


def test_labels_none_label_nothing(tiny_dataset: Path) -> None:
    teaching = taught(tiny_dataset, entry("seeds", "few"), entry("none", "train", [VOLUME]))
    for name, case in by_case(teaching).items():
        assert (case.labels != 3).any() == name.startswith("patient1")
        assert np.isfinite(case.bounds[teaching.constraints[0].name]).all() != name.startswith("patient1")


def test_nothing_labelled_at_all_is_refused(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        taught(tiny_dataset, entry("none", constraints=[TAGS]))
    assert "no voxel of the 6 training cases is labelled: there is nothing to learn from." in str(caught.value)
    assert "boundseg weaken" in str(caught.value)


def test_every_case_that_cannot_be_read_is_listed(tiny_dataset: Path) -> None:
    (tiny_dataset / "labelsTr_seeds" / "patient1_frame01.nii.gz").unlink()
    (tiny_dataset / "imagesTr" / "patient3_frame07_0000.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(DatasetError) as caught:
        taught(tiny_dataset)
    first, second = caught.value.problems
    assert first.what == "patient1_frame01.nii.gz is not there."
    assert second.what.startswith("patient3_frame07_0000.nii.gz cannot be read as NIfTI")


def test_a_crop_knows_its_classes_whole_only_where_that_was_declared(tiny_dataset: Path) -> None:
    crop = {"size": [16, 16], "fit": "crop"}
    assert {case.complete for case in taught(tiny_dataset).train} == {(True, True, True)}
    assert {case.complete for case in taught(tiny_dataset, data=crop).train} == {(False, False, False)}
    declared = taught(tiny_dataset, data={**crop, "complete": ["LV"]})
    assert {case.complete for case in declared.train} == {(False, True, False)}


def test_a_declaration_that_the_masks_contradict_names_case_and_slice(tiny_dataset: Path) -> None:
    sections = {"data": {"size": [8, 8], "fit": "crop", "complete": {"LV": 0.05, "Myo": 1}}}
    with pytest.raises(DatasetError) as caught:
        taught(tiny_dataset, **sections)
    dataset = Dataset.open(tiny_dataset)
    expected = {}
    for case in dataset.training_cases:  # the held-out ones as well
        mask = slices_of(tiny_dataset, case, "full") == 1
        rows, columns = ((n - 8 + 1) // 2 for n in mask.shape[1:])
        inside = mask[:, rows : rows + 8, columns : columns + 8].sum((1, 2))
        lost = 1 - inside / np.maximum(mask.sum((1, 2)), 1)
        lost[~mask.any((1, 2))] = 0
        if lost.max() > 0.05:
            expected[case] = f"{case}, slice {lost.argmax()}: the grid leaves out {lost.max():.1%} of LV, over 5.0%."
    assert expected
    assert [problem.what for problem in caught.value.problems] == list(expected.values())


def test_an_unknown_declared_class_names_the_nearest(tiny_dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.complete names 'LW', which is no class of .*; did you mean 'LV'\?"):
        taught(tiny_dataset, data={"complete": ["LW"]})
