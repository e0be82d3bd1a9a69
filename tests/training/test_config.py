"""A config says everything, refuses what it does not know, and comes back from its own text unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from boundseg.errors import ConfigError
from boundseg.training.config import Config

LOG = {"penalty": "log_hinge"}
SMALLEST: dict[str, Any] = {"data": {"folder": "hearts"}, "supervision": [{"labels": "seeds"}]}


def with_size(**size: Any) -> dict[str, Any]:
    """A config with one constraint."""
    return {**SMALLEST, "supervision": [{"labels": "seeds", "constraints": [{"size": {"class": "LV", **size}}]}]}


def messages(content: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.parse(content, "c.yaml")
    return [str(problem) for problem in caught.value.problems]


def configs() -> st.SearchStrategy[dict[str, Any]]:
    """Contents of config files that are right, most keys given or left out."""
    count, positive = st.integers(1, 500), st.floats(1e-30, 1e6)
    side = st.none() | st.floats(0, 1e4)
    pair = st.tuples(side, side).map(lambda p: sorted(p) if None not in p else list(p))
    unit = st.sampled_from(["px", "grid_px", "mm2", "mL", "fraction"])
    source = st.one_of(
        st.fixed_dictionaries({"set": st.sampled_from(["tags", "individual"])}, optional={"from": st.just("p.csv")}),
        st.fixed_dictionaries({"present": pair}, optional={"absent": pair, "tags": st.just("report"), "unit": unit}),
        st.fixed_dictionaries({"between": pair}, optional={"per": st.sampled_from(["slice", "volume"]), "unit": unit}),
    )
    scales = [
        {},
        {"scale": "image"},
        {"scale": "relative", "floor": 5.0},
        {"scale": 3.0},
        LOG,
        {**LOG, "softening": 2.0},
    ]
    rest = st.fixed_dictionaries(
        {"class": st.sampled_from(["LV", "LV+Myo"])},
        optional={"weight": positive},
    )
    size = st.tuples(source, st.sampled_from(scales), rest).map(
        lambda parts: {"size": {**parts[0], **parts[1], **parts[2]}}
    )
    entry = st.fixed_dictionaries(
        {"labels": st.sampled_from(["full", "none", "seeds"])},
        optional={"cases": st.just("few") | st.just(["few", "p1"]), "constraints": st.lists(size, max_size=2)},
    )
    data = st.fixed_dictionaries(
        {"folder": st.sampled_from(["hearts", "/data/hearts"])},
        optional={
            "size": st.tuples(count, count).map(list),
            "fit": st.sampled_from(["pad", "crop", "resize"]),
            "spacing_mm": st.none() | st.tuples(positive, positive).map(list),
            "complete": st.sampled_from([["LV"], {"LV": 0.1}, {}]),
        },
    )
    training = st.fixed_dictionaries(
        {},
        optional={
            "epochs": count,
            "optimizer": st.fixed_dictionaries({"lr": positive}, optional={"name": st.just("adamw")}),
            "schedule": st.fixed_dictionaries({"name": st.sampled_from(["plateau", "cosine", "constant"])}),
            "stop_after": st.none() | count,
        },
    )
    return st.fixed_dictionaries(
        {"data": data, "supervision": st.lists(entry, min_size=1, max_size=2)},
        optional={
            "training": training,
            "network": st.sampled_from(
                [{"name": "enet", "spare_outputs": 2}, {"name": "unet", "channels": [4, 8], "strides": [2]}]
            ),
            "selection": st.sampled_from([{"by": "dice"}, {"by": "last"}, {"cases": "few", "every": 1}]),
            "seed": st.integers(0, 2**32),
        },
    )


@given(configs())
def test_what_is_written_back_parses_to_the_same_config(content: dict[str, Any]) -> None:
    config = Config.parse(content)
    assert Config.parse(yaml.safe_load(config.dump())) == config


def test_every_default_is_written_back() -> None:
    written = yaml.safe_load(Config.parse(with_size(set="tags")).dump())
    assert written["training"]["optimizer"] == {"name": "adam", "lr": 5e-4, "betas": [0.9, 0.999], "weight_decay": 0}
    assert written["training"]["schedule"] == {"name": "plateau", "patience": 20, "factor": 0.5}
    assert written["data"]["size"] == [256, 256]
    assert written["selection"] == {"by": "weak", "cases": "validation", "every": 1}
    size = written["supervision"][0]["constraints"][0]["size"]
    assert (size["class"], size["from"], size["unit"], size["weight"]) == ("LV", "priors.csv", "px", 0.01)


@pytest.mark.parametrize(
    ("training", "waits"),
    [
        ({"stop_after": 4}, "training.stop_after waits 4 epochs"),
        ({"schedule": {"patience": 3}}, "training.schedule.patience waits 3 epochs"),
    ],
)
def test_who_waits_for_an_improvement_is_told_of_it_in_time(training: dict[str, Any], waits: str) -> None:
    (message,) = messages({**SMALLEST, "training": training, "selection": {"every": 5}})
    assert f"selection.every is 5: an improvement is seen only then, and {waits} for one" in message
    (epochs,) = (value if isinstance(value, int) else value["patience"] for value in training.values())
    assert Config.parse({**SMALLEST, "training": training, "selection": {"every": epochs}}).selection.every == epochs
    others = {"schedule": {"name": "cosine", "patience": 3}}
    assert Config.parse({**SMALLEST, "training": others, "selection": {"every": 5}}).selection.every == 5


def test_nothing_changes_after_it_was_read() -> None:
    config = Config.parse(SMALLEST)
    with pytest.raises(ValidationError):
        config.training.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "key", "nearest", "listed"),
    [
        (
            {**SMALLEST, "trainig": {}},
            "trainig",
            "training",
            "data, network, supervision, method, regularise, training",
        ),
        ({**SMALLEST, "data": {"folder": "h", "sise": [4, 4]}}, "data.sise", "size", "folder, size, fit, spacing_mm"),
        ({**SMALLEST, "training": {"epoch": 3}}, "training.epoch", "epochs", "epochs, batch_size, optimizer"),
        (
            {**SMALLEST, "training": {"optimizer": {"lrs": 3}}},
            "training.optimizer.lrs",
            "lr",
            "name, lr, betas, weight_decay",
        ),
        (
            {**SMALLEST, "supervision": [{"labels": "full", "label": 1}]},
            "supervision.0.label",
            "labels",
            "cases, labels, constraints",
        ),
        (with_size(set="tags", wieght=2), "supervision.0.constraints.0.size.wieght", "weight", "class, from, set"),
        ({**SMALLEST, "selection": {"bye": "dice"}}, "selection.bye", "by", "by, cases, every"),
    ],
)
def test_an_unknown_key_names_the_nearest_and_lists_the_keys_there(
    content: dict[str, Any], key: str, nearest: str, listed: str
) -> None:
    (message,) = messages(content)
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in message
    assert "in c.yaml." in message
    assert f"The keys there are: {listed}" in message


def test_an_unknown_constraint_lists_those_there_are() -> None:
    entry = {"labels": "full", "constraints": [{"sizes": {"class": "LV", "set": "tags"}}]}
    found = "\n".join(messages({**SMALLEST, "supervision": [entry]}))
    assert "unknown key 'supervision.0.constraints.0.sizes'; did you mean 'size'?" in found


def test_all_problems_are_listed_at_once() -> None:
    content = {
        "data": {"size": [0, 24], "complete": {"LV": 2}},
        "supervision": [],
        "training": {"epochs": "many", "optimizer": {"name": "sgd"}, "average": "mean"},
        "methods": "penalty",
    }
    found = messages(content)
    for fact in (
        "data.folder: Field required",
        "data.size.0: Input should be greater than 0 (given: 0)",
        "data.complete.LV: Input should be less than or equal to 1 (given: 2)",
        "supervision: List should have at least 1 item",
        "training.epochs: Input should be a valid integer",
        "training.optimizer.name: Input should be 'adam' or 'adamw' (given: 'sgd')",
        "training.average: Input should be 'image', 'batch' or 'sum' (given: 'mean')",
        "unknown key 'methods'; did you mean 'method'?",
    ):
        assert any(message.startswith(fact) for message in found), fact
    assert len(found) == 8


@pytest.mark.parametrize(
    ("size", "fact"),
    [
        ({}, "give exactly one of: set, present / absent, between."),
        ({"set": "tags", "between": [0, 9]}, "give exactly one of: set, present / absent, between."),
        ({"set": "tags", "absent": [0, 0]}, "give exactly one of: set, present / absent, between."),
        ({"set": "individual", "unit": "mL"}, "unit: beside a set it says nothing, each row of priors.csv has its own"),
        ({"set": "volume", "per": "volume"}, "per: beside a set it says nothing, each row of priors.csv has its own"),
        ({"set": "tags", "scale": "relative"}, "scale: relative goes with a floor"),
        ({"set": "tags", "floor": 10}, "scale: relative goes with a floor"),
        ({"between": [9, 3]}, "between: the lower bound 9 exceeds the upper bound 3."),
        ({"present": [60, 2], "absent": [0, 0]}, "present: the lower bound 60 exceeds the upper bound 2."),
        ({"present": [1, 9], "absent": [1, 0]}, "absent: the lower bound 1 exceeds the upper bound 0."),
    ],
)
def test_a_size_that_contradicts_itself_is_refused(size: dict[str, Any], fact: str) -> None:
    (message,) = messages(with_size(**size))
    assert message.startswith(f"supervision.0.constraints.0.size: {fact}")


@pytest.mark.parametrize("chunk", [0, -1, 2.5, "a", True, [3, 3], [3, 3, 0], [3, 3, 3, 3]])
def test_a_chunk_that_is_none_is_one_problem(chunk: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.parse({"data": {"folder": "x", "batch": "volumes", "chunk": chunk}, "supervision": [{"labels": "full"}]})
    (problem,) = refused.value.problems
    assert problem.what == (
        f"data.chunk: {chunk!r} is given: give a number of images, or three numbers, of a patch of a volume."
    )


@pytest.mark.parametrize("pair", [[None, 0], [0, None], [0, 0], [None, None]])
def test_zero_is_a_bound_and_null_is_none(pair: list[float | None]) -> None:
    config = Config.parse(with_size(between=pair))
    assert config.supervision[0].constraints[0].size.between == tuple(pair)


def write(folder: Path, content: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_set_reaches_every_key_and_reads_values_as_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, with_size(set="tags"))
    config = Config.load(
        path,
        [
            "training.epochs=5",
            "training.optimizer.lr=1e-3",  # a text in YAML 1.1, and yet a number is meant
            "supervision.0.labels=full",
            "supervision.0.constraints.0.size.weight=0.5",
            "data.size=[32, 48]",
            "training.stop_after=null",
            "network.decoder=original",
        ],
    )
    assert (config.training.epochs, config.training.optimizer.lr) == (5, 1e-3)
    assert (config.supervision[0].labels, config.data.size) == ("full", (32, 48))
    assert config.supervision[0].constraints[0].size.weight == 0.5
    assert config.training.stop_after is None
    assert config.network.options == {"decoder": "original"}


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("training.epochs", "has no '='"),
        ("supervision.3.labels=full", "there is no place 'supervision.3.labels'"),
        ("supervision.first.labels=full", "there is no place 'supervision.first.labels'"),
        ("data.folder.deeper=1", "there is no place 'data.folder.deeper'"),
        ("data.size=[1, 2", "the value is not valid YAML"),
        ("training.epocs=4", "unknown key 'training.epocs'; did you mean 'epochs'?"),
    ],
)
def test_a_set_that_leads_nowhere_is_refused(tmp_path: Path, override: str, fact: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(write(tmp_path, SMALLEST), [override])
    assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("data: {folder: [", "config.yaml is not valid YAML"),
        ("", "config.yaml holds no keys."),
        ("- data", "config.yaml holds no keys."),
        ("data: !!python/object/apply:os.getcwd []", "config.yaml is not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, fact: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(write(tmp_path, text))
    assert str(caught.value).startswith(fact)
    assert f"in {tmp_path}." in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there\.yaml is not there\.\n  in .* Check the path"):
        Config.load(tmp_path / "there.yaml")
    (tmp_path / "image.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match=r"image\.yaml is not valid YAML"):
        Config.load(tmp_path / "image.yaml")


def test_a_relative_folder_lies_beside_the_config_or_else_where_we_are(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST)
    assert Config.load(path).data.folder == Path("hearts")
    (tmp_path / "hearts").mkdir()
    assert Config.load(path).data.folder == tmp_path / "hearts"


def test_each_penalty_has_a_scale_of_its_own_and_the_default_is_written_back() -> None:
    quadratic = Config.parse(with_size(set="tags")).supervision[0].constraints[0].size
    assert (quadratic.scale, quadratic.softening) == ("image", None)
    log_hinge = Config.parse(with_size(set="tags", penalty="log_hinge")).supervision[0].constraints[0].size
    assert (log_hinge.scale, log_hinge.softening) == (None, 10)
    (message,) = messages(with_size(set="tags", penalty="log_hinge", scale="image"))
    assert "log_hinge takes softening (in pixels) or scale: a number in the unit of the bounds" in message
    assert "and was given scale: image." in message
    (message,) = messages(with_size(set="tags", softening=3))
    assert "quadratic takes scale: image or scale: relative or scale: a number" in message
    assert "and was given softening (in pixels)." in message


def test_spare_outputs_are_no_option_of_the_network() -> None:
    network = Config.parse({**SMALLEST, "network": {"name": "enet", "spare_outputs": 2, "dropout": "channel"}}).network
    assert (network.spare_outputs, network.options) == (2, {"dropout": "channel"})
