"""What trainings need of a dataset folder: found, derived as the verbs do it, and never derived twice."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError
from boundseg.paper import reproduce
from boundseg.paper.bounds import Wanted, annotated_patient, sources
from boundseg.paper.by_volume import by_volume
from boundseg.paper.needs import Needs, drawn, provide, require_kind
from boundseg.paper.rows import Drawn, base, row
from tests.conftest import CommandLine

ACDC = base("acdc")
LISTS = {"full2_seed0": (Drawn(2, "volumes"), 0)}


@pytest.fixture
def hearts(bare_hearts: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(bare_hearts, tmp_path / "hearts")
    return Dataset.open(tmp_path / "hearts")


def needs_of(*keys: str, preset: str = "honest") -> Needs:
    folder = Path("hearts")
    return Needs.of((row(key), 0, row(key).resolve(folder, preset, "quick", 0)) for key in keys)  # type: ignore[arg-type]


def test_what_rows_need() -> None:
    assert needs_of("table1/full") == Needs()
    assert needs_of("table1/common") == Needs(("erosion_text",), (Wanted("common"),))
    # bounds that the config gives need to know where the class is
    assert needs_of("table1/common", preset="published") == Needs(("erosion_256",), (Wanted("tags"),))
    assert needs_of("table1/volume", preset="published").bounds == (Wanted("volume_exact"),)
    assert needs_of("table2/hybrid5", "table2/full10").lists == {
        "full5_seed0": (Drawn(5, "volumes"), 0),
        "full10_seed0": (Drawn(10, "volumes"), 0),
    }
    assert needs_of("patients/individual_6").lists == {"patients6_seed0": (Drawn(6, "patients"), 0)}
    assert needs_of("penalties/common_centroid").bounds == (
        Wanted("common"),
        Wanted("individual_within10", "centroid_x"),
        Wanted("individual_within10", "centroid_y"),
    )


def test_it_is_derived_as_the_verbs_derive_it(hearts: Dataset, tmp_path: Path, command_line: CommandLine) -> None:
    theirs = tmp_path / "by-verbs"
    shutil.copytree(hearts.folder, theirs)
    wanted = tuple(map(Wanted, ("tags", "common", "individual", "volume")))
    ours = provide(hearts, Needs(("erosion_text",), wanted), ACDC, report=list)
    for arguments in (
        ("weaken", theirs, "--reading", "text", "--name", "erosion_text", "--cases", "train", "--cases", "validation"),
        ("weaken", theirs, "--cases", "train", "--cases", "validation"),
        ("priors", theirs, "tags", "--empty", "absent", "--cases", "train", "--cases", "validation"),
        ("priors", theirs, "common", "--empty", "absent", "--patient", "patient01", "--cases", "train",
         "--cases", "validation"),
        ("priors", theirs, "individual", "--cases", "train", "--cases", "validation", "--cases", "test"),
        ("priors", theirs, "volume", "--cases", "train", "--cases", "validation", "--cases", "test"),
    ):  # fmt: skip
        code, _, err = command_line(*arguments)
        assert code == 0, err
    assert priors.read(ours.folder / "priors.csv") == priors.read(theirs / "priors.csv")
    for name in ("erosion", "erosion_text"):
        for case in ours.cases_of("train"):
            _, image = ours.read_image(case)
            labels = [Dataset.open(folder).read_labels(case, name, image) for folder in (ours.folder, theirs)]
            assert np.array_equal(*labels)


def test_what_is_there_is_left_alone(hearts: Dataset) -> None:
    wanted, said = Needs(("disc",), (Wanted("individual"), Wanted("volume_exact")), LISTS), list[str]()
    once = provide(hearts, wanted, ACDC, report=said.append)
    assert len(said) == 4
    before = once.fingerprint(), (once.folder / "priors.csv").stat().st_mtime_ns
    again = provide(once, wanted, ACDC, report=said.append)
    assert len(said) == 4
    assert before == (again.fingerprint(), (again.folder / "priors.csv").stat().st_mtime_ns)


def test_the_published_volume_bounds_have_no_margin(hearts: Dataset) -> None:
    found = provide(hearts, Needs((), (Wanted("volume_exact"), Wanted("volume"))), ACDC, report=list)
    rows = priors.read(found.folder / "priors.csv")
    exact = {row.case: (row.lower, row.upper) for row in rows if row.set == "volume_exact"}
    for row_ in (one for one in rows if one.set == "volume"):
        lower, upper = exact[row_.case]
        assert lower == upper > 0
        assert (row_.lower, row_.upper) == pytest.approx((0.9 * lower, 1.1 * upper))
    told = sources(found, [Wanted("volume_exact")], ACDC)
    assert told == {"bounds volume_exact": "oracle: volume in the full mask, margin 0 (8 rows)"}


def test_lists_are_drawn_by_their_seed_over_patients_first(hearts: Dataset) -> None:
    four = drawn(hearts, Drawn(4, "volumes"), seed=1)
    assert sorted(four) == sorted(hearts.cases_of("train"))
    for count in (1, 2, 3):
        assert drawn(hearts, Drawn(count, "volumes"), seed=1) == four[:count], "a shorter list begins a longer one"
    assert len({hearts.splits.patient_of(case) for case in four[:2]}) == 2
    assert len({tuple(drawn(hearts, Drawn(4, "volumes"), seed)) for seed in range(12)}) > 1
    with pytest.raises(DatasetError, match=r"5 fully annotated volumes are asked for, and the list 'train' has 4\."):
        drawn(hearts, Drawn(5, "volumes"), seed=1)


def test_lists_are_written_where_a_config_finds_them(hearts: Dataset) -> None:
    found = provide(hearts, Needs(lists={"full3_seed7": (Drawn(3, "volumes"), 7)}), ACDC, report=list)
    assert found.cases_of("full3_seed7") == drawn(hearts, Drawn(3, "volumes"), 7)
    assert found.splits.lists["test"] == hearts.splits.lists["test"]


def test_the_annotated_patient(hearts: Dataset) -> None:
    assert annotated_patient(hearts, ACDC) == "patient01", "patient061 is not here"
    assert annotated_patient(hearts, ACDC, "patient02") == "patient02"
    with pytest.raises(DatasetError, match=r"(?s)patient04 is not in the list 'train'.*another, such as pat"):
        annotated_patient(hearts, ACDC, "patient04")


def test_the_annotated_patient_of_a_split_by_volume_is_one_of_his_volumes(hearts: Dataset, tmp_path: Path) -> None:
    view = by_volume(hearts, tmp_path / "split", 0.125)
    trains = view.splits.lists["train"]
    for patient in {name.split("_")[0] for name in trains}:
        own = [name for name in trains if name.startswith(f"{patient}_")]
        assert annotated_patient(view, ACDC, patient) == own[0]
        assert annotated_patient(view, ACDC, own[-1]) == own[-1]
    with pytest.raises(DatasetError, match="patient0 is not in the list"):
        annotated_patient(view, ACDC, "patient0")


def test_a_dataset_of_another_kind_gets_one_message(hearts: Dataset) -> None:
    require_kind(hearts, ACDC)
    with pytest.raises(DatasetError) as found:
        require_kind(hearts, base("prostate"))
    assert re.search("about the class prostate .* and the dataset has LV.", str(found.value))
    assert "boundseg convert promise12" in str(found.value)


def with_three_structures(folder: Path) -> None:
    """Says that the masks hold two classes more."""
    path = folder / "dataset.json"
    labels = {"background": 0, "LV": 1, "Myo": 2, "RV": 3, "ignore": 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))


def test_a_dataset_of_more_classes_is_of_another_kind(hearts: Dataset, tmp_path: Path) -> None:
    with_three_structures(hearts.folder)
    three = Dataset.open(hearts.folder)
    with pytest.raises(DatasetError, match=r"the class LV alone .* and the dataset has LV, Myo, RV.(?s:.*)--target LV"):
        require_kind(three, ACDC)
    require_kind(three, base("hearts"))
    for what in ("table1", "table2", "figure2"):
        with pytest.raises(DatasetError, match="the class LV alone"):
            reproduce(what, [hearts.folder], out=tmp_path / "out", scale="quick", train=False)


def test_everything_that_is_missing_is_listed_at_once(hearts: Dataset) -> None:
    lists = hearts.folder / "splits.json"
    lists.write_text(lists.read_text().replace('"validation": [\n  "patient03"\n ]', '"validation": []'))
    hearts.label_path("patient01_frame01").unlink()
    with pytest.raises(DatasetError) as found:
        require_kind(Dataset.open(hearts.folder), ACDC)
    assert "nobody is in the list 'validation'." in str(found.value)
    assert "1 cases have no full mask (patient01_frame01)." in str(found.value)


def test_the_name_of_a_set_says_how_it_is_derived(hearts: Dataset) -> None:
    names = ("individual", "individual_error30", "individual_error30_margin50", "volume_px")
    wanted = [*map(Wanted, names), Wanted("individual_within10", "centroid_x"), Wanted("individual", "spread_y")]
    found = provide(hearts, Needs((), tuple(wanted)), ACDC, report=list)
    rows = {(one.set, one.quantity, one.case, one.slice): one for one in priors.read(found.folder / "priors.csv")}
    volumes = [one for one in rows.values() if one.set == "volume_px"]
    for case, index in {(one.case, one.slice) for one in rows.values() if one.set == "individual" and one.upper > 0}:
        off, wide = (rows[name, "size", case, index] for name in names[1:3])
        middle = off.lower / 0.9
        assert off.upper == pytest.approx(1.1 * middle)
        assert (wide.lower, wide.upper) == pytest.approx((0.5 * middle, 1.5 * middle))
        assert 0.7 <= 0.9 * middle / rows["individual", "size", case, index].lower <= 1.3
        centroid = rows["individual_within10", "centroid_x", case, index]
        assert (centroid.upper - centroid.lower, centroid.unit) == (pytest.approx(20), "mm")
        spread = rows["individual", "spread_y", case, index]
        assert spread.upper / spread.lower == pytest.approx(1.1 / 0.9)
    assert {(one.unit, one.slice) for one in volumes} == {("px", None)}
    assert len(volumes) == 8


def test_patients_are_drawn_whole(hearts: Dataset) -> None:
    both = drawn(hearts, Drawn(2, "patients"), seed=5)
    assert sorted(both) == sorted(hearts.splits.lists["train"])
    assert drawn(hearts, Drawn(1, "patients"), seed=5) == both[:1]
    with pytest.raises(DatasetError, match=r"3 patients are asked for, and the list 'train' has 2\."):
        drawn(hearts, Drawn(3, "patients"), seed=5)


def test_names_that_nobody_can_derive(hearts: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"(?s)6 cases have no labels 'scribble'.*cannot be derived"):
        provide(hearts, Needs(("scribble",)), ACDC, report=list)
    with pytest.raises(DatasetError, match="there is no set 'report' of bounds"):
        provide(hearts, Needs((), (Wanted("report"),)), ACDC, report=list)
