"""A table in one call: run, written, skipped when it is finished, gone on with when it is not."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pandas as pd
import pytest

from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.errors import ConfigError, DatasetError, InputError, RunError
from boundseg.evaluation.statistics import compare, mean
from boundseg.evaluation.tables import Evaluation, paired_tests
from boundseg.paper import pictures, reproduce, standalone
from boundseg.paper.bounds import Wanted
from boundseg.paper.by_volume import by_volume
from boundseg.paper.needs import Needs, provide
from boundseg.paper.reproduce import _require_known
from boundseg.paper.rows import Drawn, Scale, base
from boundseg.paper.rows import row as paper_row
from boundseg.paper.runs import plan
from boundseg.training.config import Config
from boundseg.training.run import Run
from tests.conftest import CommandLine

from .conftest import CHANGED, ROWS, Begun, run


def table_of(text: str, heading: str) -> list[dict[str, str]]:
    """The Markdown table below a heading."""
    lines = text.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_runs_lie_where_they_are_looked_for(begun: Begun) -> None:
    for name in ROWS:
        run_ = Run.open(begun.out / "table1" / name / "seed0")
        assert run_.config.seed == 0
        assert len(run_.metrics()) == 2
        # the config beside it trains the same by hand
        assert Config.load(begun.out / "table1" / name / "seed0.yaml") == run_.config
    assert [outcome.state for outcome in begun.found.outcomes] == ["done", "done"]
    assert begun.found.unfinished == []


@pytest.mark.parametrize(("scale", "epochs", "patience"), [("full", 800, 80), ("quick", 80, 20)])
def test_a_row_of_equal_updates_counts_its_shorter_epochs(
    bare_hearts: Path, tmp_path: Path, scale: Scale, epochs: int, patience: int
) -> None:
    one_of_four = replace(paper_row("table2/full5_updates"), drawn=Drawn(1, "volumes"))
    provided = provide(Dataset.open(bare_hearts), Needs(), base("acdc"))
    (one,) = plan([(one_of_four, provided)], [0], "honest", scale, tmp_path)
    training = one.config.training
    assert (training.epochs, training.schedule.patience) == (epochs, patience)
    assert one.config.selection.every == 4
    # what is asked for in epochs is asked for a training on all
    asked = ["training.epochs=5", "training.stop_after=3", "training={schedule: {name: plateau}}", "selection.every=2"]
    (one,) = plan([(one_of_four, provided)], [0], "honest", scale, tmp_path, [*asked[2:], *asked[:2]])
    training = one.config.training
    assert (training.epochs, training.stop_after, training.schedule.patience) == (20, 12, 80)
    assert one.config.selection.every == 8
    assert list(tmp_path.iterdir()) == [], "to plan writes nothing"


def test_what_was_missing_was_derived_and_said(begun: Begun) -> None:
    dataset = Dataset.open(begun.dataset)
    assert dataset.label_sets == ("erosion", "erosion_text")
    assert [line for line in begun.said if line.startswith("labelsTr_")] == [
        f"labelsTr_{name}: weak labels of 6 volumes, made from their masks" for name in ("erosion_text", "erosion")
    ]
    assert "priors.csv: bounds 'common' of 6 volumes" in begun.said


def test_the_page_says_that_it_is_reduced_and_on_what(begun: Begun) -> None:
    text = begun.found.files["page"].read_text(encoding="utf-8")
    head = text.split("\n## ")[0]
    assert "Scale quick (reduced, not the paper's protocol), preset honest" in head
    assert "2 of 2 rows are finished" in head
    facts = dict(re.findall(r"^\| (.+?) \| (.+) \|$", head, flags=re.M))
    assert facts["epochs"] == "2"
    assert facts["grid"].startswith("48 x 48 px of 4 x 4 mm")
    assert facts["dataset hearts"].startswith("train 2 patients (4 volumes), validation 1 patients (2 volumes)")
    assert facts["bounds common"].startswith("full masks of patient01")
    assert facts["changed"].startswith("training.epochs=2")
    assert "1 thread(s)" in facts["machine"]
    assert "split by patient" in text
    assert f"boundseg reproduce table1 --data {begun.dataset} --scale quick" in text


def test_the_tables_figures_are_those_of_the_evaluations(begun: Begun) -> None:
    text = begun.found.files["page"].read_text(encoding="utf-8")
    shown = table_of(text, "Ours beside the paper's")
    digits = pd.read_csv(begun.found.files["csv"])
    assert [row["training"] for row in shown] == ["seeds alone (partial CE)", "common bounds, direct penalty"]
    for name, row, (_, line) in zip(ROWS, shown, digits.iterrows(), strict=True):
        found = Evaluation.read(begun.out / "table1" / name / "seed0" / "evaluation")
        assert found.about["cases"] == "test"
        assert found.about["weights"] == "last"
        dice = found.volumes["dice"].mean()
        assert line["dice_volumes"] == pytest.approx(dice, rel=1e-5)
        assert line["dice_slices"] == pytest.approx(found.slices["dice"].mean(), rel=1e-5)
        assert row["test DSC, volumes"].startswith(f"{dice:.3f} (")
        assert row["state"] == "done"
        metrics = Run.open(begun.out / "table1" / name / "seed0").metrics()
        assert line["validation_dice_judged_epoch"] == pytest.approx(metrics[1]["validation dice: LV"], rel=1e-5)
        assert line["judged_epoch"] == 1
        assert line["minutes"] == pytest.approx(sum(epoch["seconds"] for epoch in metrics) / 60, rel=1e-5)
    assert [row["the paper's DSC"] for row in shown] == ["0.1497", "0.8004"]


def test_every_judged_volume_is_there_for_tests_of_ones_own(begun: Begun) -> None:
    volumes = pd.read_csv(begun.found.files["volumes"])
    digits = pd.read_csv(begun.found.files["csv"]).set_index("row")
    (pair,) = pd.read_csv(begun.found.files["pairs"]).to_dict("records")
    of_rows = {key.split("/")[1]: rows for key, rows in volumes.groupby("row", sort=False)}
    assert list(of_rows) == list(ROWS)
    for name, rows in of_rows.items():
        found = Evaluation.read(begun.out / "table1" / name / "seed0" / "evaluation").volumes
        assert list(rows["case"]) == list(found["case"])
        assert list(rows["dice"]) == pytest.approx(list(found["dice"]), rel=1e-5)
        assert list(rows["hd95_mm"]) == pytest.approx(list(found["hd95_mm"]), rel=1e-5, nan_ok=True)
        line = digits.loc[f"table1/{name}"]
        interval = mean(found["dice"], found["patient"])
        assert (line["dice_volumes_low"], line["dice_volumes_high"]) == pytest.approx(
            (interval.low, interval.high), rel=1e-5, nan_ok=True
        )
    (again,) = compare(of_rows)
    assert (again.difference, again.p) == pytest.approx((pair["difference"], pair["p"]), rel=1e-4)


def test_pairs_are_those_of_the_evaluation_room(begun: Begun) -> None:
    (ours,) = table_of(begun.found.files["page"].read_text(encoding="utf-8"), "Pairs of rows")
    (theirs,) = paired_tests(
        {name: Evaluation.read(begun.out / "table1" / name / "seed0" / "evaluation") for name in ROWS}
    )
    for key in ("difference", "patients", "p", "p (Holm)"):
        assert ours[key] == theirs[key]
    with begun.found.files["pairs"].open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["pair"] == "seeds alone (partial CE) − common bounds, direct penalty"


def test_latex_and_picture(begun: Begun) -> None:
    text = begun.found.files["latex"].read_text(encoding="utf-8")
    assert text.count(r"\\") == 1 + len(ROWS)
    assert "reduced, not the paper's protocol" in text
    body = text.split(r"\midrule")[1]
    assert {line.count("&") for line in body.splitlines() if "&" in line} == {
        text.split(r"\toprule")[1].split(r"\\")[0].count("&")
    }
    assert min(matplotlib.image.imread(begun.found.files["picture"]).shape[:2]) > 200


def test_what_is_finished_is_skipped(begun: Begun) -> None:
    before = {path: path.stat().st_mtime_ns for path in (begun.out / "table1").rglob("*.csv")}
    said: list[str] = []
    again = run(begun.dataset, begun.out, said)
    assert {path: path.stat().st_mtime_ns for path in (begun.out / "table1").rglob("*.csv")} == before
    assert said == []
    assert again.rows == begun.found.rows


def copy(begun: Begun, tmp_path: Path) -> Path:
    """The output folder, to be changed; its runs are still of the same dataset."""
    shutil.copytree(begun.out, tmp_path / "out")
    return tmp_path / "out"


def test_what_is_not_finished_is_said_and_gone_on_with(begun: Begun) -> None:
    assert [row["state"] for row in begun.before.rows] == ["1/2 epochs", "not begun"]
    assert len(begun.before.unfinished) == 2
    assert "0 of 2 rows are finished" in begun.page_before
    assert "| 1/2 epochs |" in begun.page_before
    assert "## Pairs" not in begun.page_before
    assert not any(row["test DSC, volumes"] for row in begun.before.rows)
    # the epoch that was there was not trained again
    log = (begun.out / "table1" / "partial" / "seed0" / "log.txt").read_text(encoding="utf-8")
    assert log.count("best epoch 0 ") == log.count("best epoch 1 ") == 1


def test_more_epochs_are_judged_anew(begun: Begun, tmp_path: Path) -> None:
    out = copy(begun, tmp_path)
    longer = run(begun.dataset, out, [], overrides=["training.epochs=3", *CHANGED[1:]], train=False)
    assert [row["state"] for row in longer.rows] == ["2/3 epochs", "2/3 epochs"]
    assert not any(row["test DSC, volumes"] for row in longer.rows)


def rewrite(path: Path, *changes: tuple[str, str]) -> None:
    """Replaces what is there once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("schedule", "epochs"), [("constant", 1), ("cosine", 1), ("cosine", 3)])
def test_epochs_change_to_no_fewer_than_are_trained_and_only_where_the_rate_does_not_end_with_them(
    begun: Begun, tmp_path: Path, schedule: str, epochs: int
) -> None:
    out = copy(begun, tmp_path)
    for name in ROWS:
        rewrite(out / "table1" / name / "seed0" / "config.yaml", ("name: constant", f"name: {schedule}"))
    asked = [f"training.epochs={epochs}", f"training.schedule={{name: {schedule}}}", *CHANGED[2:]]
    shown = run(begun.dataset, out, [], overrides=asked, train=False)
    assert {row["state"] for row in shown.rows} == {"begun with another config"}
    with pytest.raises(InputError, match=r"began with, in: training.epochs\.(?s:.*) Epochs may be others"):
        run(begun.dataset, out, [], overrides=asked)


def test_a_training_that_ended_early_is_finished_and_judged(begun: Begun, tmp_path: Path) -> None:
    out = copy(begun, tmp_path)
    for name in ROWS:
        folder = out / "table1" / name / "seed0"
        rewrite(folder / "config.yaml", ("epochs: 2\n", "epochs: 6\n"), ("stop_after: null", "stop_after: 1"))
        # no epoch was an improvement
        rewrite(folder / "checkpoints" / "last" / "state.json", ('"best_epoch": 1', '"best_epoch": -1'))
    asked = ["training.epochs=6", "training.stop_after=1", *CHANGED[1:]]
    shown = run(begun.dataset, out, [], overrides=asked, train=False)
    assert shown.rows == begun.found.rows
    assert {row["state"] for row in shown.rows} == {"done"}


def test_an_evaluation_of_other_weights_is_made_anew(begun: Begun, tmp_path: Path) -> None:
    out = copy(begun, tmp_path)
    folder = out / "table1" / "partial" / "seed0" / "evaluation"
    about = folder / "about.json"
    about.write_text(about.read_text(encoding="utf-8").replace('"epoch": 1', '"epoch": 0'), encoding="utf-8")
    (folder / "volumes.csv").write_text("case,class\n", encoding="utf-8")
    said: list[str] = []
    assert run(begun.dataset, out, said, train=False).rows == begun.found.rows
    assert said == ["judging table1/partial/seed0 on the test cases"]


def test_another_config_is_never_taken_for_the_rows_own(begun: Begun, tmp_path: Path) -> None:
    out = copy(begun, tmp_path)
    configs = {path: path.read_text(encoding="utf-8") for path in (out / "table1").rglob("*.yaml")}
    said = list[str]()
    with pytest.raises(InputError, match=r"(?s)the config differs from the one that .* began with.*table1.common"):
        run(begun.dataset, out, said, preset="text")
    shown = run(begun.dataset, out, said, preset="text", train=False)
    assert {path: path.read_text(encoding="utf-8") for path in configs} == configs, "those of the runs stay beside them"
    assert said == [], "nothing was derived"
    assert {row["state"] for row in shown.rows} == {"begun with another config"}
    assert not any(row["test DSC, volumes"] for row in shown.rows)


def test_predictions_say_the_scale(begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    footnotes: list[str] = []
    monkeypatch.setattr(pictures, "draw_slices", lambda *arguments: footnotes.append(arguments[-1]))
    out = copy(begun, tmp_path)
    options: dict[str, Any] = {"scale": "quick", "train": False, "overrides": CHANGED}
    reproduce("figure5", [begun.dataset], out=out, only=ROWS, **options)
    assert footnotes[0].startswith("Scale quick (reduced, not the paper's protocol), preset honest, changed: ")


def test_figures_of_the_same_runs(begun: Begun, tmp_path: Path) -> None:
    out = copy(begun, tmp_path)
    for what, rows in (("figure3", ROWS), ("figure5", ROWS), ("figure4", ["common", "full5"])):
        options = {"scale": "quick", "train": False, "overrides": CHANGED}
        found = reproduce(what, [begun.dataset], out=out, only=rows, **options)  # type: ignore[arg-type]
        assert found.files["picture"] == out / f"{what}.png"
        assert min(matplotlib.image.imread(found.files["picture"]).shape[:2]) > 200
        assert f"({what}.png)" in found.files["page"].read_text(encoding="utf-8")


def test_predictions_are_drawn_only_where_something_is_judged(begun: Begun, tmp_path: Path) -> None:
    found = reproduce("figure5", [begun.dataset], out=tmp_path, scale="quick", train=False)
    assert "picture" not in found.files
    assert "![" not in found.files["page"].read_text(encoding="utf-8")


def test_a_split_by_volume_is_a_folder_of_links(begun: Begun, tmp_path: Path) -> None:
    before = Dataset.open(begun.dataset).fingerprint()
    found = reproduce("table1", [begun.dataset], out=tmp_path, scale="quick", split="volumes", train=False)
    assert Dataset.open(begun.dataset).fingerprint() == before
    view = Dataset.open(tmp_path / "by-volume" / "hearts")
    assert set(view.cases) == set(Dataset.open(begun.dataset).cases)
    assert all(cases == [name] for name, cases in view.splits.patients.items())
    assert (len(view.cases_of("train")), len(view.cases_of("validation")), view.cases_of("test")) == (7, 1, [])
    assert {row.set for row in priors.read(view.folder / "priors.csv")}.isdisjoint({"common"})
    for case in view.cases:
        theirs, ours = (Dataset.open(folder).read_image(case)[0] for folder in (begun.dataset, view.folder))
        assert (theirs == ours).all()
    assert "validation DSC, volumes" in found.rows[0]
    assert not any(key.startswith("test ") for key in found.rows[0])
    page = found.files["page"].read_text(encoding="utf-8")
    assert "by volume, as the paper's: patients on both sides, no test set" in page
    assert "--split volumes" in page
    again = by_volume(Dataset.open(begun.dataset), view.folder, 0.125)
    assert again.fingerprint() == view.fingerprint()


def test_without_a_test_set_the_papers_way_stays_apart(bare_hearts: Path, tmp_path: Path) -> None:
    """Judged on the same cases twice: once with an empty slice that is predicted empty as 1, once without it."""
    asked = {"preset": "published", "scale": "quick", "split": "volumes", "only": ["full"], "overrides": CHANGED}
    reproduce("table1", [bare_hearts], out=tmp_path, device="cpu", quiet=True, threads=1, **asked)  # type: ignore[arg-type]
    folder = tmp_path / "table1" / "full" / "seed0"
    judged = {name: Evaluation.read(folder / name) for name in ("evaluation", "evaluation_validation")}
    assert [one.empty for one in judged.values()] == ["nan", "one"]
    assert [one.about["cases"] for one in judged.values()] == ["validation", "validation"]


@pytest.fixture
def split(bare_hearts: Path, tmp_path: Path) -> Callable[[], Dataset]:
    """Splits a dataset of its own by volume, again with every call."""
    shutil.copytree(bare_hearts, tmp_path / "one" / "hearts")
    return lambda: by_volume(Dataset.open(tmp_path / "one" / "hearts"), tmp_path / "split", 0.25)


def test_a_split_by_volume_gets_what_its_dataset_got_later(split: Callable[[], Dataset], tmp_path: Path) -> None:
    one, view = Dataset.open(tmp_path / "one" / "hearts"), split()
    provide(view, Needs((), (Wanted("individual"),)), base("acdc"))
    own = priors.read(view.folder / "priors.csv")
    later = (Wanted("common"), Wanted("individual"), Wanted("volume"))
    provide(one, Needs(("disc",), later), base("acdc"))
    again = split()
    # presence needs erosion, which came with the common bounds
    assert again.label_sets == ("disc", "erosion")
    rows = priors.read(again.folder / "priors.csv")
    assert rows[: len(own)] == own, "what is there is left as it is"
    theirs = priors.read(one.folder / "priors.csv")
    assert rows[len(own) :] == [row for row in theirs if row.set == "volume"]
    assert split().fingerprint() == again.fingerprint()


def test_a_split_by_volume_is_of_one_folder_with_its_cases(split: Callable[[], Dataset], tmp_path: Path) -> None:
    view = split()
    other = tmp_path / "other" / "hearts"
    shutil.copytree(tmp_path / "one" / "hearts", other)
    with pytest.raises(
        DatasetError, match=r"the split by volume is of .*one.hearts, not of .*other.hearts.(?s:.*)--out"
    ):
        by_volume(Dataset.open(other), view.folder, 0.25)
    (view.folder / "source.json").rename(tmp_path / "source.json")
    with pytest.raises(DatasetError, match="of a folder that it does not name"):
        split()
    (tmp_path / "source.json").rename(view.folder / "source.json")
    Dataset.open(tmp_path / "one" / "hearts").label_path("patient01_frame01").unlink()
    with pytest.raises(DatasetError, match=r"has other cases \(patient01_frame01\) than when it was split by volume"):
        split()


def test_the_penalty_needs_no_data(tmp_path: Path) -> None:
    found = reproduce("figure1", out=tmp_path)
    costs = pd.read_csv(found.files["csv"]).set_index("size_px")["quadratic (the paper's)"]
    for size in (0, 500, 900, 1000, 1100, 1500, 2500):
        by_hand = max(900 - size, 0) ** 2 + max(size - 1100, 0) ** 2
        assert costs[size] == pytest.approx(by_hand / 65536, rel=1e-5)
    assert found.files["picture"].is_file()


def test_masks_and_weak_labels(begun: Begun, tmp_path: Path) -> None:
    found = reproduce("figure2", [begun.dataset], out=tmp_path)
    labelled = {row["labels"]: int(row["pixels of LV"]) for row in found.rows}
    # kernels on 256 x 256 px take less of images that are smaller
    assert 0 < labelled["erosion_text"] < labelled["erosion_256"] < labelled["full mask"]
    assert found.files["picture"].is_file()


def test_table5_is_the_benchmark(tmp_path: Path) -> None:
    files, rows = standalone.table5(
        scale="quick", out=tmp_path, device="cpu", threads=1, size=(16, 16), rows=["direct-1"]
    )
    assert [row["paper, ms"] for row in rows] == ["112", "113"]
    text = files["page"].read_text(encoding="utf-8")
    assert "16 x 16" in text
    assert "6 rounds" in text
    assert len(pd.read_csv(files["csv"])) == 2
    assert files["picture"].is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"what": "tabel1"}, "there is no table or figure 'tabel1'"),
        ({"seeds": [1, 1]}, r"\[1, 1\] are no seeds"),
        ({"only": ["comon"]}, "table1 has no row 'comon'"),
        ({"overrides": ["training.epohcs=1"]}, "epohcs"),
    ],
)
def test_wrong_words(begun: Begun, tmp_path: Path, options: dict[str, object], message: str) -> None:
    arguments = {"what": "table1", "data": [begun.dataset], "out": tmp_path, "train": False} | options
    with pytest.raises(ConfigError, match=message):
        reproduce(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["table5", "figure1", "figure2"])
def test_what_trains_nothing_refuses_what_is_asked_of_trainings(tmp_path: Path, what: str) -> None:
    asked: dict[str, Any] = {
        "only": ["common"],
        "seeds": [1],
        "overrides": ["seed=1"],
        "patient": "p",
        "split": "volumes",
    }
    with pytest.raises(ConfigError, match=f"{what} trains nothing.* --row, --seed, --set, --patient, --split."):
        reproduce(what, out=tmp_path, **asked)
    with pytest.raises(ConfigError, match=f"{what} trains nothing, and has no use for --set."):
        reproduce(what, out=tmp_path, overrides=["training.epochs=5"])


def test_wrong_scales_and_presets() -> None:
    with pytest.raises(ConfigError, match="there is no scale 'fast'"):
        _require_known("table1", "fast", "honest", [0])
    with pytest.raises(ConfigError, match=r"there is no preset 'honset'.*'honest'"):
        _require_known("table1", "full", "honset", [0])


def test_no_dataset_and_a_wrong_one(begun: Begun, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"table1 needs a dataset folder.*\n.*boundseg convert acdc"):
        reproduce("table1", out=tmp_path)
    with pytest.raises(DatasetError, match="this is about the class vertebrae"):
        reproduce("table4", [begun.dataset], out=tmp_path)
    with pytest.raises(DatasetError, match="is the second folder with LV"):
        reproduce("table1", [begun.dataset, begun.dataset], out=tmp_path)
    with pytest.raises(DatasetError, match="figure2 shows one dataset folder"):
        reproduce("figure2", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_folder_is_no_output_folder(begun: Begun) -> None:
    with pytest.raises(RunError, match="is a run folder"):
        run(begun.dataset, begun.out / "table1" / "partial" / "seed0", [])


def test_on_the_command_line(begun: Begun, command_line: CommandLine) -> None:
    rows = [word for name in ROWS for word in ("--row", name)]
    changed = [word for override in CHANGED for word in ("--set", override)]
    arguments = [
        "reproduce",
        "table1",
        "--data",
        begun.dataset,
        "--out",
        begun.out,
        "--scale",
        "quick",
        *rows,
        *changed,
    ]
    code, out, err = command_line("-q", *arguments, "--jobs", 1, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "common bounds, direct penalty" in out
    assert f"page: {begun.out / 'table1.md'}" in out
    assert "not finished" not in out
    code, out, err = command_line("reproduce", "table1", "--out", begun.out, "--scale", "quick")
    assert code == 2
    assert err.startswith("error: table1 needs a dataset folder.")
