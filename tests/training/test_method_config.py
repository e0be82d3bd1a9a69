"""Methods in configs: what each builds, what it refuses and what survives an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from boundseg.data.dataset import Dataset
from boundseg.errors import CheckpointError, ConfigError
from boundseg.losses import Lagrangian, Penalties, Proposals
from boundseg.training.config import Config
from boundseg.training.loop import train
from boundseg.training.run import Run
from boundseg.training.supervision import teach

from .cases import INDIVIDUAL, TAGS, VOLUME, entry, tiny

MYO = {"size": {"class": "Myo", "between": [0, 50]}}
CENTROID = {"centroid": {"class": "LV", "axis": "x", "between": [1, 9]}}


def config(folder: Path, method: Any, *constraints: Any, **sections: Any) -> Config:
    return tiny(folder, entry("seeds", constraints=constraints or [INDIVIDUAL]), method=method, **sections)


def run(asked: Config, folder: Path, **options: Any) -> Run:
    return train(asked, folder, device="cpu", quiet=True, **options)


def test_each_name_builds_its_method(tiny_dataset: Path) -> None:
    def built(method: Any) -> Any:
        asked = config(tiny_dataset, method, INDIVIDUAL, VOLUME)
        teaching = teach(asked, Dataset.open(tiny_dataset))
        return asked.method.build(teaching.constraints, teaching.train, torch.device("cpu")), teaching

    assert isinstance(built("penalty")[0], Penalties)
    plain, teaching = built("lagrangian")
    assert isinstance(plain, Lagrangian) and (plain.rate, plain.coefficient) == (1, None)
    by_slice, by_volume = teaching.constraints
    assert plain.multipliers.of(by_slice.name).shape == (2, sum(map(len, teaching.train)), 1)
    assert plain.multipliers.of(by_volume.name).shape == (2, len(teaching.train), 1)
    augmented, _ = built({"name": "augmented_lagrangian", "coefficient": 3})
    assert (augmented.rate, augmented.coefficient) == (3, 3)
    proposals = config(tiny_dataset, {"name": "proposals", "solver": "ascent", "stop": "both"}).method
    assert proposals.build([], [], torch.device("cpu")) == Proposals("ascent", stop="both")


def test_the_config_of_a_run_says_every_option(tiny_dataset: Path) -> None:
    text = config(tiny_dataset, "proposals").dump()
    assert "method: {name: proposals, solver: exact, targets: argmax, stop: never, step: null" in text
    assert config(tiny_dataset, "penalty") == Config.parse(
        {**config(tiny_dataset, {"name": "penalty"}).model_dump(by_alias=True)}
    )


@pytest.mark.parametrize(
    ("method", "constraints", "message"),
    [
        ("proposal", [], "method: 'proposal' is no method; did you mean 'proposals'?"),
        ({"solver": "exact"}, [], "method: None is no method. There are penalty"),
        ({"name": "proposals", "solvr": "exact"}, [], "unknown key 'method.solvr'; did you mean 'solver'?"),
        ({"name": "lagrangian", "coefficient": 2}, [], "unknown key 'method.coefficient'"),
        ({"name": "lagrangian", "rate": 0}, [], "method.rate: Input should be greater than 0 (given: 0)"),
        ("proposals", [INDIVIDUAL, VOLUME], "proposals keep bounds of slices or bounds of volumes"),
        ("proposals", [{"compactness": {"class": "LV", "between": [0.5, 1]}}], "it measures Compactness"),
        ({"name": "proposals", "targets": "best"}, [CENTROID], "targets: best chooses voxels by sizes"),
        ({"name": "proposals", "solver": "ascent"}, [INDIVIDUAL, MYO], "keeps the size of one region"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_prepared(
    method: Any, constraints: Any, message: str, tiny_dataset: Path, tmp_path: Path
) -> None:
    prepared: list[str] = []
    with pytest.raises(ConfigError) as told:
        run(config(tiny_dataset, method, *constraints), tmp_path / "run", report=prepared.append)
    assert message in str(told.value)
    assert not prepared and not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["penalty", "proposals", "lagrangian", "augmented_lagrangian"])
def test_every_method_trains_slices_and_volumes(method: str, tiny_dataset: Path, tmp_path: Path) -> None:
    for number, (constraint, of) in enumerate([(INDIVIDUAL, "slices"), (VOLUME, "volumes")]):
        sections = {"data": {"batch": of}, "training": {"batch_size": 2, "epochs": 2}}
        rows = run(config(tiny_dataset, method, constraint, **sections), tmp_path / str(number)).metrics()
        told = {name.split(":")[0] for name in rows[-1]}
        assert ("proposal" in told) == (method == "proposals")
        assert ("multiplier" in told) == ("lagrangian" in method)
        assert {"penalty", "satisfied", "validation objective"} <= told


def test_epochs_are_judged_alike_whatever_the_method(tiny_dataset: Path, tmp_path: Path) -> None:
    """At a rate of next to nothing, the network is the same and so is what validation says of it."""
    still = {"training": {"epochs": 1, "optimizer": {"lr": 1e-12}, "batch_size": 8}}
    rows = [
        run(config(tiny_dataset, name, **still), tmp_path / name).metrics()[0]["validation objective"]
        for name in ("penalty", "proposals", "augmented_lagrangian")
    ]
    assert rows[1:] == pytest.approx([rows[0]] * 2, rel=1e-5)


def test_multipliers_survive_an_interruption(
    tiny_dataset: Path, tmp_path: Path, interrupt_after: Callable[[int], None]
) -> None:
    asked = config(tiny_dataset, "augmented_lagrangian", training={"epochs": 3, "batch_size": 8})
    unbroken = run(asked, tmp_path / "unbroken").checkpoint("last")
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "broken")
    resumed = run(asked, tmp_path / "broken", resume=True).checkpoint("last")
    (multipliers,) = unbroken.multipliers.values()
    assert (multipliers > 0).any()
    for ours, theirs in ((resumed.multipliers, unbroken.multipliers), (resumed.weights, unbroken.weights)):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_multipliers_of_other_bounds_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    asked = config(tiny_dataset, "lagrangian", training={"epochs": 1})
    begun = run(asked, tmp_path / "run")
    longer = asked.model_copy(update={"training": asked.training.model_copy(update={"epochs": 2})})
    (begun.folder / "checkpoints" / "last" / "multipliers.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the multipliers do not fit the training"):
        run(longer, begun.folder, resume=True)


def test_common_bounds_in_grid_pixels_can_be_proposed(tiny_dataset: Path, tmp_path: Path) -> None:
    common = {"size": {"class": "LV", "present": [5, 60], "absent": [0, 0], "unit": "grid_px"}}
    rows = run(config(tiny_dataset, {"name": "proposals", "targets": "best"}, common, TAGS), tmp_path / "run").metrics()
    assert rows[-1]["proposal feasible"] > 0
