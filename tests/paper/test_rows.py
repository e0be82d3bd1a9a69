"""The configs of the paper's rows: every one parses, its claim is the table's, and ours are what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boundseg.errors import ConfigError
from boundseg.paper.needs import Needs
from boundseg.paper.rows import PRESETS, SCALES, Preset, Row, Scale, merge, row, tables, text_of
from boundseg.paper.runs import lengthened
from boundseg.training.config import Config

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "src" / "boundseg" / "paper" / "configs"
KEYS = sorted(
    path.relative_to(CONFIGS).with_suffix("").as_posix()
    for path in CONFIGS.glob("*/*.yaml")
    if path.parent.name != "bases"
)
DATA = Path("ACDC_LV")
RESULTS = ROOT / "docs" / "results" / "paper"
TEACHING = {"patients": 48, "volumes": 96}  # of the split that comes with ACDC's copy
EARLIER = {"common_presence": "common", "tags_log_hinge": "tags"}


def _measured() -> dict[str, float]:
    """The rows of the committed tables that have run, and their DSC on test volumes, the mean over their seeds."""
    tables_of_rows = [pd.read_csv(path) for path in RESULTS.glob("*.csv") if path.stem in tables()]
    rows = pd.concat(tables_of_rows).query("state == 'done'").dropna(subset="dice_volumes")
    return dict(rows.groupby("row")["dice_volumes"].mean())


MEASURED = _measured()

# the paper's tables 1 to 4 as its notes state them, typed here once more
PAPER = {
    "table1": {
        "partial": 0.1497, "tags_ascent": 0.7707, "tags": 0.7924, "common_ascent": 0.7854, "common": 0.8004,
        "individual_ascent": 0.7900, "individual": 0.8708, "volume": 0.8580, "full": 0.8872,
    },
    "table2": {
        "common": 0.8004, "full5": 0.5434, "full10": 0.6004, "full25": 0.7680, "hybrid5": 0.8386, "hybrid10": 0.8475,
        "hybrid25": 0.8641, "full": 0.8872,
    },
    "table3": {
        "vertebrae_partial": 0.1155, "vertebrae_tags": 0.5597, "vertebrae_common": 0.7900,
        "vertebrae_individual": 0.8604, "vertebrae_full": 0.8999, "prostate_partial": 0.0320, "prostate_tags": 0.6911,
        "prostate_common": 0.7214, "prostate_individual": 0.8298, "prostate_full": 0.8911,
    },
    "table4": {
        "vertebrae_individual": 0.8604, "from80_to1100": 0.7900, "from80_to5000": 0.6704, "from80_to10000": 0.6349,
        "from0_to1100": 0.7820, "from0_to5000": 0.6694, "from0_to10000": 0.6255, "from0_to65536": 0.5597,
    },
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_every_row_parses_at_every_scale_by_every_preset(key: str) -> None:
    for preset in PRESETS:
        for scale in SCALES:
            config = row(key).resolve(DATA, preset, scale, seed=3)
            assert config.seed == 3
            assert Config.parse(yaml.safe_load(config.dump())) == config
            assert re.search(r"\b[A-Z]{4,}\b", config.dump().replace("ACDC_LV", "")) is None, "a word was left"


@pytest.mark.parametrize("key", KEYS)
def test_every_row_opens_with_its_claim(key: str) -> None:
    text, asked = text_of(key), row(key)
    head = text[: text.index("title:")].splitlines()
    assert all(line.startswith("# ") for line in head)
    table, name = key.split("/")
    if tables()[table].of_paper:
        assert head[0].startswith(f"# Table {table.removeprefix('table')}, ")
        claimed = re.fullmatch(r"# The paper: ([\d.]+) \(validation DSC\)\.", head[1])
        assert (float(claimed[1]) if claimed else None) == asked.paper
    else:
        assert head[1] == "# Beyond the paper: no such row."
        assert asked.paper is None
    measured = any(line.startswith("# Ours, --scale quick: ") for line in head)
    command = rf"# boundseg reproduce {table} --data [A-Z_]+ --row {name}{' --scale quick' if measured else ''}"
    assert re.fullmatch(command, head[-1])
    assert asked.name == name


@pytest.mark.parametrize("name", PAPER)
def test_a_table_has_the_papers_figures(name: str) -> None:
    assert {one.name: one.paper for one in tables()[name].rows if one.paper is not None} == PAPER[name]


def test_every_row_belongs_to_a_table_and_figures_have_rows_of_tables() -> None:
    of_tables = [one.key for name, table in tables().items() if not name.startswith("figure") for one in table.rows]
    assert sorted(set(of_tables)) == KEYS
    for table in tables().values():
        assert {one.key for one in table.rows} <= set(of_tables)
        assert len({one.name for one in table.rows}) == len(table.rows), "a name is enough for --row"


@pytest.mark.parametrize("key", sorted(MEASURED))
def test_a_row_that_was_measured_says_so_and_is_the_config_that_it_was_measured_with(key: str) -> None:
    config = Config.load(RESULTS / f"{key.replace('/', '_')}.yaml")
    asked = row(key)
    wanted = asked.resolve(config.data.folder, "honest", "quick", config.seed)
    if asked.full_updates:
        assert asked.drawn
        wanted = lengthened(wanted, TEACHING[asked.drawn.of] / asked.drawn.count, key)
    assert wanted == config
    (claimed,) = re.findall(r"^# Ours, --scale quick: (\S+) \(test volumes\)", text_of(key), flags=re.M)
    assert claimed == f"{MEASURED[key]:.3f}"


@pytest.mark.parametrize(
    ("folder", "preset", "scale", "name"),
    [
        ("half", "honest", "half", "individual"),
        ("half", "honest", "half", "volume_exact"),
        ("half", "honest", "half", "full"),
        ("published", "published", "quick", "individual"),
        ("published", "published", "quick", "full"),
        ("text", "text", "quick", "individual"),
    ],
)
def test_a_row_of_another_scale_or_preset_is_the_config_that_it_was_measured_with(
    folder: str, preset: Preset, scale: Scale, name: str
) -> None:
    measured = Config.load(RESULTS / folder / f"table1_{name}.yaml")
    assert row(f"table1/{name}").resolve(DATA, preset, scale, 0) == measured
    volumes = pd.read_csv(RESULTS / folder / "table1_volumes.csv").set_index("row").loc[f"table1/{name}"]
    line = pd.read_csv(RESULTS / folder / "table1.csv").set_index("row").loc[[f"table1/{name}"]].iloc[0]
    assert line["dice_volumes"] == pytest.approx(volumes["dice"].mean(), rel=1e-5)


@pytest.mark.parametrize(("name", "measured"), EARLIER.items())
def test_a_row_of_the_earlier_page_is_the_config_that_it_was_measured_with(name: str, measured: str) -> None:
    theirs = ROOT / "docs" / "results" / "acdc-lv" / f"{measured}.yaml"
    assert row(f"table1/{name}").resolve(DATA, "honest", "quick", 0) == Config.load(theirs)
    (ours,) = re.findall(r"^# Ours, --scale quick: (\S+) \(test volumes\)", text_of(f"table1/{name}"), flags=re.M)
    assert f"Here: {ours}." in theirs.read_text(encoding="utf-8")


def test_no_other_row_claims_a_figure_of_ours() -> None:
    claiming = {key for key in KEYS if "# Ours" in text_of(key)}
    assert claiming == {*MEASURED, *(f"table1/{name}" for name in EARLIER)}


def test_bounds_of_the_papers_grid_follow_a_grid_that_is_set() -> None:
    def present(scale: Scale, *overrides: str) -> object:
        asked = row("table1/common").resolve(DATA, "published", scale, 0, overrides).supervision[0].constraints[0].size
        return asked and asked.present

    assert present("full", "data.size=[128, 128]") == present("half") == (15, 500)
    assert present("half", "data.size=[256, 256]") == present("full") == (60, 2000)
    # bounds that are set are in pixels of the grid that trains, as in every config
    set_too = "supervision.0.constraints.0.size.present=[60, 2000]"
    assert present("half", set_too) == present("full", "data.size=[128, 128]", set_too) == (60, 2000)


def test_an_override_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.size.*\n.*table1/common, preset honest, scale quick"):
        row("table1/common").resolve(DATA, "honest", "quick", 0, ["data.size=128"])


def test_hybrid_rows_teach_the_annotated_volumes_of_their_seed_by_masks() -> None:
    hybrid: Row = row("table2/hybrid10")
    config = hybrid.resolve(DATA, "honest", "quick", seed=4)
    assert [(entry.cases, entry.labels) for entry in config.supervision] == [
        ("full10_seed4", "full"),
        ("train", "erosion_text"),
    ]


@pytest.mark.parametrize("table", ["table2", "errors", "patients"])
def test_rows_over_something_say_where_they_stand_and_that_is_what_they_do(table: str) -> None:
    for one in tables()[table].rows:
        if one.key.startswith("table1/"):
            assert one.at is None, "a horizontal line"
            continue
        assert one.series
        wanted = Needs.of([(one, 0, one.resolve(DATA, "honest", "quick", 0))])
        if table == "errors":
            assert f"_error{one.at}" in wanted.bounds[0].set
        else:
            assert [asked.count for asked, _ in wanted.lists.values()] == [one.at]


leaves = st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
contents = st.recursive(leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)).filter(
    lambda found: isinstance(found, dict)
)


@given(contents, contents)
def test_merging_with_itself_or_with_nothing_changes_nothing(one: dict[str, object], other: dict[str, object]) -> None:
    assert merge(one, {}) == one
    assert merge(one, one) == one
    assert merge(merge(one, other), other) == merge(one, other)


def test_null_takes_a_key_out_and_lists_are_replaced() -> None:
    under = {"a": {"x": 1, "y": [1, 2]}, "b": 2}
    assert merge(under, {"a": {"x": None, "y": [3]}, "b": None}) == {"a": {"y": [3]}}
    assert under == {"a": {"x": 1, "y": [1, 2]}, "b": 2}, "the parts are not changed"
