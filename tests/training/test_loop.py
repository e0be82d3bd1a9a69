"""Trainings of seconds: what they leave, what they learn, and that a resumed one equals an unbroken one."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from boundseg.errors import ConfigError, DatasetError, RunError
from boundseg.inference import Predictor, label_map
from boundseg.training import loop
from boundseg.training.config import Config
from boundseg.training.evaluate import evaluate
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.state.resume import differing

from .cases import INDIVIDUAL, TAGS, VOLUME, entry, tiny

MONAI = {"name": "basicunet", "features": [4, 4, 4, 4, 4, 4], "dropout": 0.2}


def run(config: Config, folder: Path, **options: Any) -> Run:
    return train(config, folder, device="cpu", quiet=True, **options)


def comparable(trained: Run) -> list[dict[str, float]]:
    """The rows of metrics.csv without what a clock said."""
    return [
        {k: v for k, v in row.items() if k not in ("waiting", "images_per_second") and not k.startswith("seconds")}
        for row in trained.metrics()
    ]


def same_weights(one: Run, other: Run, which: Any = "last") -> bool:
    ours, theirs = one.checkpoint(which), other.checkpoint(which)
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in ((ours.weights, theirs.weights), (ours.optimizer, theirs.optimizer))
    )


def test_a_run_leaves_the_folder_that_was_designed(trained: Run) -> None:
    files = {str(path.relative_to(trained.folder)) for path in trained.folder.rglob("*") if path.is_file()}
    assert files >= {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "log.txt",
        "checkpoints/last/weights.safetensors",
        "checkpoints/last/optimizer.safetensors",
        "checkpoints/last/state.json",
        "checkpoints/best/weights.safetensors",
        "checkpoints/best/state.json",
    }
    written = yaml.safe_load((trained.folder / "config.yaml").read_text())
    assert written["training"]["warm_up"] == 0
    assert Path(written["data"]["folder"]).is_absolute()
    environment = json.loads((trained.folder / "environment.json").read_text())
    assert environment["labels"] == {"background": 0, "LV": 1, "Myo": 2}
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    for key in ("command", "seed", "started", "python", "machine", "accelerator", "commit", "data"):
        assert environment[key] != ""
    log = (trained.folder / "log.txt").read_text()
    assert "starts at the expected shares" in log
    assert "best epoch" in log


def test_metrics_hold_a_row_an_epoch_with_every_term(trained: Run) -> None:
    with (trained.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    name = "size LV individual per slice in px"
    for row in trained.metrics():
        assert row["objective"] > row["cross_entropy"]
        assert 0 <= row[f"satisfied: {name}"] <= 1
        assert 0 <= row["validation dice: LV"] <= 1
        assert 0 <= row["validation dice: Myo"] <= 1
        assert math.isfinite(row["validation objective"])
        assert 0 < row["waiting"] < 1
        assert row["lr"] == 2e-3


SETTINGS: dict[str, Callable[[Path], Config]] = {
    # element dropout and batch norm; the rate falls with every epoch, the weights grow
    "enet": lambda folder: tiny(
        folder,
        entry("seeds", constraints=[INDIVIDUAL]),
        training={"epochs": 3, "batch_size": 8, "schedule": {"name": "cosine"}, "warm_up": 2},
    ),
    "monai, volumes": lambda folder: tiny(
        folder,
        entry("full", "few"),
        entry("seeds", constraints=[VOLUME]),
        data={"size": [32, 32], "batch": "volumes"},
        network=MONAI,
        training={"epochs": 3, "batch_size": 2, "schedule": {"name": "plateau", "patience": 1}},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_equals_the_unbroken_one(
    name: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SETTINGS[name](tiny_dataset)
    # the first epoch stays the best, and the rate is cut: a resumed run has to remember both
    monkeypatch.setattr(loop, "_score", lambda row, config, teaching: row["epoch"])
    unbroken = run(config, tmp_path / "unbroken")
    assert len(unbroken.metrics()) == 3

    with monkeypatch.context() as patch:
        kill_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "broken")
    assert len(Run.open(tmp_path / "broken").metrics()) == 1
    torch.manual_seed(4711)  # another process, whatever it did before
    resumed = run(config, tmp_path / "broken", resume=True)
    assert comparable(resumed) == comparable(unbroken)
    assert same_weights(resumed, unbroken)
    assert all(
        torch.equal(value, unbroken.checkpoint("best").weights[key])
        for key, value in resumed.checkpoint("best").weights.items()
    )
    without_times = [
        {k: v for k, v in r.checkpoint("last").state.items() if k != "seconds"} for r in (resumed, unbroken)
    ]
    assert without_times[0] == without_times[1]


def kill_after(epochs: int, patch: pytest.MonkeyPatch) -> None:
    """Interrupts the training at the end of the epoch after these, before anything of it is written."""
    validate, calls = loop.validate, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) >= epochs:
            raise KeyboardInterrupt
        return validate(*arguments)

    patch.setattr(loop, "validate", interrupted)


def test_a_longer_training_goes_on_where_the_shorter_one_ended(tiny_dataset: Path, tmp_path: Path) -> None:
    def config(epochs: int) -> Config:
        return tiny(tiny_dataset, training={"epochs": epochs, "batch_size": 15})

    long = run(config(3), tmp_path / "long")
    run(config(1), tmp_path / "short")
    prolonged = run(config(3), tmp_path / "short", resume=True)
    assert comparable(prolonged) == comparable(long)
    assert same_weights(prolonged, long)
    assert prolonged.config.training.epochs == 3


def test_the_same_config_gives_the_same_run_and_another_seed_another(tiny_dataset: Path, tmp_path: Path) -> None:
    def of_seed(seed: int, name: str) -> Run:
        return run(tiny(tiny_dataset, training={"epochs": 1, "batch_size": 15}, seed=seed), tmp_path / name)

    one, again, other = of_seed(1, "one"), of_seed(1, "again"), of_seed(2, "other")
    assert comparable(one) == comparable(again)
    assert same_weights(one, again)
    assert comparable(one) != comparable(other)


def test_a_run_ends_early_where_nothing_improves_and_resuming_it_changes_nothing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {0: 3.0, 1: 2.0}
    monkeypatch.setattr(loop, "_score", lambda row, config, teaching: scores.get(int(row["epoch"]), 2.5))
    config = tiny(tiny_dataset, training={"epochs": 9, "batch_size": 30, "stop_after": 2})
    finished = run(config, tmp_path / "run")
    rows = comparable(finished)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert "ended after epoch 3: no improvement since epoch 1" in (finished.folder / "log.txt").read_text()
    assert comparable(run(config, tmp_path / "run", resume=True)) == rows


def test_an_existing_run_folder_is_refused_before_anything_is_prepared(tiny_dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"the run folder .*run exists\.\n  Go on with --resume, name another"):
        run(tiny(tiny_dataset), folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert not (tiny_dataset / "prepared").exists()


def test_a_config_that_is_refused_leaves_no_run_folder(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'enet'"):
        run(tiny(tiny_dataset, network={"name": "enett"}), tmp_path / "run")
    with pytest.raises(ConfigError, match="is no class"):
        run(tiny(tiny_dataset, data={"complete": ["RV"]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"training": {"optimizer": {"lr": 1e-4}}}, "training.optimizer.lr"),
        ({"data": {"size": [32, 32]}}, "data.size"),
        ({"seed": 5}, "seed"),
    ],
)
def test_resuming_with_another_config_names_the_key(trained: Run, sections: dict[str, Any], named: str) -> None:
    content = trained.config.model_dump(by_alias=True)
    for section, keys in sections.items():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            content[section][key] = {**content[section][key], **value} if isinstance(value, dict) else value
        if not isinstance(keys, dict):
            content[section] = keys
    with pytest.raises(RunError) as caught:
        run(Config.parse(content), trained.folder, resume=True)
    assert f"differs from the one that {trained.folder} began with, in: {named}." in str(caught.value)
    assert len(trained.metrics()) == 2


@pytest.mark.parametrize(
    ("schedule", "epochs", "same"),
    [
        *((name, 3, True) for name in ("constant", "plateau", "plateau_published")),
        *((name, 3, False) for name in ("cosine", "poly", "one_cycle")),
        ("constant", 1, False),
        ("cosine", 2, True),
    ],
)
def test_epochs_may_change_where_the_rate_does_not_end_with_them(
    trained: Run, tmp_path: Path, schedule: str, epochs: int, same: bool
) -> None:
    def asked(epochs: int) -> Config:
        content = trained.config.model_dump(by_alias=True)
        return Config.parse(
            content | {"training": content["training"] | {"epochs": epochs, "schedule": {"name": schedule}}}
        )

    shutil.copytree(trained.folder, tmp_path / "run")
    Run(tmp_path / "run").write_config(asked(2))
    run = Run.open(tmp_path / "run")
    assert differing(asked(epochs), run) == ([] if same else ["training.epochs"])
    # cut short, but not below what is trained
    run.write_config(asked(5))
    assert differing(asked(5), Run.open(tmp_path / "run")) == []
    assert differing(asked(epochs), Run.open(tmp_path / "run")) == (
        [] if same and schedule != "cosine" else ["training.epochs"]
    )


def test_resuming_what_never_began_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run folder: config\.yaml is not there"):
        run(tiny(tiny_dataset), tmp_path / "nothing", resume=True)


def test_hybrid_training_on_whole_volumes_keeps_every_term_finite(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(
        tiny_dataset,
        entry("full", "few"),
        entry("seeds", "patient2", [VOLUME, {"size": {"class": "Myo", "set": "tags"}}]),
        entry("none", "train", [{"size": {"class": "LV+Myo", "between": [0, None], "scale": "relative", "floor": 5}}]),
        data={"batch": "volumes"},
        training={"batch_size": 2, "epochs": 2},
    )
    rows = run(config, tmp_path / "run").metrics()
    assert len(rows) == 2
    for row in rows:
        # the held-out cases are taught as the last entry says: of the others' constraints they know nothing
        unknown = {name for name in row if math.isnan(row[name])}
        assert all(name.startswith("validation") and ("volume" in name or "tags" in name) for name in unknown)
        assert all(math.isfinite(value) for name, value in row.items() if name not in unknown)
        assert row["penalty: size LV volume per volume in mL"] > 0
        assert row["penalty: size LV+Myo everywhere per slice in px"] == 0


def test_volume_bounds_say_nothing_of_a_batch_of_slices(tiny_dataset: Path, tmp_path: Path) -> None:
    """Parts of a volume never add up to it, so its lower bound is not held against them."""
    config = tiny(tiny_dataset, entry("seeds", "train", [VOLUME]), training={"epochs": 1, "batch_size": 2})
    trained = run(config, tmp_path / "run")
    (row,) = trained.metrics()
    assert math.isfinite(row["objective"])
    log = (trained.folder / "log.txt").read_text()
    assert "note: size LV volume per volume in mL: its lower bounds do not hold in batches of slices; set data." in log


def test_training_towards_bounds_lowers_their_violation(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(
        tiny_dataset,
        entry("seeds", "train", [INDIVIDUAL]),
        training={"epochs": 6, "batch_size": 8, "first_bias": "zero", "optimizer": {"lr": 5e-3}},
    )
    rows = run(config, tmp_path / "run").metrics()
    name = "penalty: size LV individual per slice in px"
    assert rows[-1][name] < 0.5 * rows[0][name]
    assert rows[-1][f"validation {name}"] < 0.5 * rows[0][f"validation {name}"]


def test_the_expected_shares_start_nearer_to_the_bounds(tiny_dataset: Path, tmp_path: Path) -> None:
    def first_penalty(first_bias: str) -> float:
        config = tiny(
            tiny_dataset,
            entry("seeds", "train", [INDIVIDUAL]),
            training={"epochs": 1, "first_bias": first_bias, "optimizer": {"lr": 1e-9}},
        )
        return run(config, tmp_path / first_bias).metrics()[0]["penalty: size LV individual per slice in px"]

    assert first_penalty("expected") < 0.1 * first_penalty("zero")


def test_the_objective_is_cross_entropy_and_weighted_penalties_that_warm_up(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = [{"size": {"class": "LV", "set": "individual", "weight": 0.25}}, VOLUME]
    settings = {"epochs": 4, "batch_size": 6, "warm_up": 2, "first_bias": "zero"}
    config = tiny(tiny_dataset, entry(constraints=asked), data={"batch": "volumes"}, training=settings)
    for row in run(config, tmp_path / "run").metrics():  # an epoch is one step, so that means are exact
        strength = min(1.0, row["epoch"] / 2)
        weighted = 0.25 * row["penalty: size LV individual per slice in px"]
        weighted += 0.01 * row["penalty: size LV volume per volume in mL"]
        assert weighted > 0.1
        assert row["objective"] == pytest.approx(row["cross_entropy"] + strength * weighted, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda schedule, lr, done, progress: 1e-3 if done == 0 else 1e30)
    config = tiny(tiny_dataset, training={"epochs": 4, "batch_size": 15})
    with pytest.raises(RunError) as caught:
        run(config, tmp_path / "run")
    message = str(caught.value)
    assert message.startswith("the loss of epoch 1 is not finite, first at its step 1 (patient")
    assert "The checkpoint of epoch 0 is kept" in message
    kept = Run.open(tmp_path / "run")
    assert [row["epoch"] for row in kept.metrics()] == [0]
    for which in ("last", "best"):
        found = kept.checkpoint(which)  # type: ignore[arg-type]
        assert found.state["epoch"] == 0
        assert all(tensor.isfinite().all() for tensor in found.weights.values())


@pytest.mark.parametrize("batch_size", [15, 30])
def test_a_rate_out_of_all_bounds_is_refused_in_the_first_epoch(
    batch_size: int, tiny_dataset: Path, tmp_path: Path
) -> None:
    # 30 slices make one step: the loss is finite, and what the step leaves is not
    config = tiny(tiny_dataset, training={"epochs": 2, "batch_size": batch_size, "optimizer": {"lr": 1e30}})
    with pytest.raises(RunError, match="the loss of epoch 0 is not finite") as caught:
        run(config, tmp_path / "run")
    assert "is kept" not in str(caught.value)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_without_held_out_cases_the_last_epoch_is_best(tiny_dataset: Path, tmp_path: Path) -> None:
    splits = tiny_dataset / "splits.json"
    splits.write_text(json.dumps(json.loads(splits.read_text()) | {"validation": []}))
    trained = run(tiny(tiny_dataset, training={"epochs": 2, "batch_size": 30}), tmp_path / "run")
    assert trained.checkpoint("best").state["epoch"] == 1
    assert not any(name.startswith("validation") for name in trained.metrics()[0])


@pytest.mark.parametrize(("by", "column", "sign"), [("weak", "validation objective", 1), ("dice", None, -1)])
def test_best_is_the_best_epoch_by_what_selects(
    tiny_dataset: Path, tmp_path: Path, by: str, column: str | None, sign: int
) -> None:
    config = tiny(
        tiny_dataset,
        entry("seeds", constraints=[TAGS]),
        training={"epochs": 4, "batch_size": 10, "optimizer": {"lr": 2e-2}},
        selection={"by": by},
    )
    trained = run(config, tmp_path / "run")
    scores = [
        sign * (row[column] if column else (row["validation dice: LV"] + row["validation dice: Myo"]) / 2)
        for row in trained.metrics()
    ]
    assert trained.checkpoint("best").state["epoch"] == scores.index(min(scores))
    assert trained.checkpoint("last").state["epoch"] == 3


def test_by_slices_the_measure_is_the_papers(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(
        tiny_dataset,
        entry("full", "few"),
        training={"epochs": 4, "batch_size": 10, "optimizer": {"lr": 2e-2}},
        selection={"by": "slice_dice"},
    )
    trained = run(config, tmp_path / "run")
    of_class = {name: [row[f"validation slice dice: {name}"] for row in trained.metrics()] for name in ("LV", "Myo")}
    scores = [sum(both) / 2 for both in zip(*of_class.values(), strict=True)]
    assert trained.checkpoint("best").state["epoch"] == scores.index(max(scores))
    judged = evaluate(trained, "validation", which="last", device="cpu", empty="one").slices
    for name, values in of_class.items():
        assert values[-1] == pytest.approx(judged[judged["class"] == name]["dice"].mean(), abs=1e-6)


def test_only_every_other_epoch_is_validated_and_the_last(tiny_dataset: Path, tmp_path: Path) -> None:
    def trained(name: str, every: int, by: str) -> Run:
        config = tiny(
            tiny_dataset,
            entry("seeds", constraints=[TAGS]),
            training={"epochs": 5, "batch_size": 10, "optimizer": {"lr": 2e-2}},
            selection={"by": by, "every": every},
        )
        return run(config, tmp_path / name)

    every, seldom, last = trained("every", 1, "weak"), trained("seldom", 2, "weak"), trained("last", 3, "last")
    known = {
        row["epoch"]: row["validation objective"]
        for row in seldom.metrics()
        if not math.isnan(row["validation objective"])
    }
    assert set(known) == {1, 3, 4}
    of_every = {row["epoch"]: row["validation objective"] for row in every.metrics()}
    assert known == {epoch: of_every[epoch] for epoch in known}, "nothing of the training depends on it"
    assert same_weights(seldom, every)
    assert seldom.checkpoint("best").state["epoch"] == min(known, key=known.__getitem__)
    assert last.checkpoint("best").state["epoch"] == 4
    columns = [(one.folder / "metrics.csv").read_text().splitlines()[0] for one in (every, seldom)]
    assert columns[0] == columns[1], "whether the first epoch was validated or not"


def test_bf16_and_plain_memory_layout_train_as_well(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(
        tiny_dataset,
        entry("seeds", constraints=[INDIVIDUAL]),
        training={"epochs": 1, "batch_size": 15, "precision": "bf16-mixed", "channels_last": False},
    )
    (row,) = run(config, tmp_path / "run").metrics()
    assert math.isfinite(row["objective"])
    weights = Run.open(tmp_path / "run").checkpoint("last").weights
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}


def test_spare_outputs_train_and_read_as_background(tiny_dataset: Path, tmp_path: Path) -> None:
    config = tiny(tiny_dataset, entry(constraints=[INDIVIDUAL]), network={"name": "enet", "spare_outputs": 2})
    trained = run(config, tmp_path / "run")
    assert trained.checkpoint("last").weights["decoder.head.bias"].shape == (5,)
    image = torch.rand(20, 24, 3).numpy()
    network = trained.network()
    with torch.no_grad():
        network.decoder.head.bias[3:] += 100  # type: ignore[union-attr]
    probs = Predictor(network, config.data.grid, torch.device("cpu"))(image[None].transpose(0, 3, 1, 2), (1.0, 1.0))
    assert probs.shape == (5, 3, 20, 24)
    assert (label_map(probs) >= 3).all()
    assert (label_map(probs, classes=3) == 0).all()
    assert trained.predict(image, (1.0, 1.0)).max() < 3


def test_what_cannot_be_read_of_a_case_is_named(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: Any) -> Any:
        raise OSError("Input/output error")

    monkeypatch.setattr("boundseg.training.steps.made", gone)
    with pytest.raises(DatasetError) as error:
        run(tiny(tiny_dataset, training={"batch_size": 2}), tmp_path / "run")
    assert re.match(r"patient\d_\w+ slice \d, .*: what was prepared of it cannot be read: Input", str(error.value))
    assert "Remove the folder prepared/ of the dataset" in str(error.value)
