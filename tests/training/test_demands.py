"""Every quantity that can be bounded teaches: from the config over priors.csv and the frame to a cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from boundseg.constraints import QUANTITIES, BoxTightness, Term, Voxels, log_hinge
from boundseg.constraints.quantities import names, split
from boundseg.data import derive, priors
from boundseg.data.augment import AUGMENTATIONS
from boundseg.data.batches import Batch, collate
from boundseg.data.dataset import Dataset
from boundseg.errors import ConfigError, PriorsError
from boundseg.losses import Objective
from boundseg.training.config import Config
from boundseg.training.evaluate import evaluate
from boundseg.training.loop import train
from boundseg.training.supervision import Teaching, teach

from .cases import INDIVIDUAL, TAGS, entry, tiny
from .test_loop import comparable

# one of each family; what has no unit of its own is given a margin in absolute terms
ALL: list[dict[str, Any]] = [
    {"size": {"class": "LV", "set": "individual", "unit": "px"}},
    {"ratio": {"class": "LV:Myo", "set": "individual"}},
    {"centroid": {"class": "LV", "axis": "x", "set": "individual"}},
    {"distance": {"class": "LV:Myo", "set": "individual", "penalty": "huber", "scale": 2.0}},
    {"spread": {"class": "LV", "axis": "y", "set": "individual", "penalty": "log_hinge", "scale": 1.0}},
    {"elongation": {"class": "Myo", "set": "individual", "penalty": "linear"}},
    {"moment": {"class": "LV", "axes": "xy", "set": "individual"}},
    {"intensity": {"class": "LV", "set": "individual", "scale": 100.0}},
    {"intensity_variance": {"class": "LV", "set": "individual", "penalty": "relative_band", "scale": 10.0}},
    {"boundary": {"class": "LV", "set": "individual", "weight": 1e-4}},
    {"compactness": {"class": "LV", "set": "individual"}},
    {"box": {"class": "Myo", "fill": [0.2, 0.9], "width": 3}},
]


@pytest.fixture
def bounded(tiny_dataset: Path) -> Path:
    """The tiny dataset with bounds on everything."""
    dataset, path = Dataset.open(tiny_dataset), tiny_dataset / "priors.csv"
    cases = [*dataset.cases_of("train"), *dataset.cases_of("validation")]
    rows = priors.read(path)
    for constraint in (
        Config.parse({"data": {"folder": "."}, "supervision": [entry(constraints=ALL)]}).supervision[0].constraints
    ):
        asked = constraint.asked
        if asked.quantity not in ("size", "box"):
            unit = QUANTITIES[next(iter(constraint.model_dump()))].units[0]
            rows += derive.individual(
                dataset, cases, [asked.class_], quantity=asked.quantity, unit=unit, margin=0.05, absolute=0.002
            )
    priors.write(path, rows + derive.box(dataset, cases, ["Myo"]))
    return tiny_dataset


def batch_of(teaching: Teaching) -> Batch:
    cases = teaching.train
    pairs = [(i, s) for i, case in enumerate(cases) for s in range(len(case))]
    return collate(cases, pairs, teaching.volume_constraints)


def terms_of_masks(config: Config, *augmentations: str) -> dict[str, Term]:
    """What the constraints find in full masks, as a perfect network would predict them."""
    dataset = Dataset.open(config.data.folder)
    teaching = teach(config, dataset)
    batch = batch_of(teaching)
    for name in augmentations:
        batch = AUGMENTATIONS[name](batch)
    logits = 60.0 * F.one_hot(batch.labels.long(), 4)[..., :3].movedim(-1, 1).double()
    return Objective(3, teaching.constraints)(logits, batch.labels, batch.bounds, batch.frame, batch.volumes).terms


@pytest.mark.parametrize("augmentations", [(), tuple(AUGMENTATIONS)], ids=["as it is", "augmented"])
def test_the_true_mask_keeps_its_bounds_of_every_family(bounded: Path, augmentations: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    found = terms_of_masks(tiny(bounded, entry("full", constraints=ALL)), *augmentations)
    assert len(found) == len(ALL) + 2  # a box asks for three things
    for name, term in found.items():
        assert term.bounds.known.any(), name
        # prepared images are kept in half precision
        tolerance = {"rtol": 0, "atol": 1e-3 if "intensity" in name else 1e-6}
        torch.testing.assert_close(term.mean, torch.zeros_like(term.mean), **tolerance, msg=name)


def test_wrong_bounds_of_every_family_push(bounded: Path) -> None:
    """The rows of another patient: every family costs something, and has a gradient that is finite."""
    path = bounded / "priors.csv"
    moved = {"patient1": "patient2", "patient2": "patient3", "patient3": "patient1"}
    rows = [row for row in priors.read(path) if row.set in ("individual", "box")]
    swapped = [type(row)(**{**vars(row), "case": moved.get(row.case[:8], row.case[:8]) + row.case[8:]}) for row in rows]
    priors.write(path, swapped)
    too_full = {"box": {**ALL[-1]["box"], "fill": [0.6, 0.9]}}
    teaching = teach(tiny(bounded, entry("full", constraints=[*ALL[:-1], too_full])), Dataset.open(bounded))
    batch = batch_of(teaching)
    for constraint in teaching.constraints:
        logits = (3.0 * F.one_hot(batch.labels.long(), 4)[..., :3].movedim(-1, 1).float()).requires_grad_()
        term = constraint(
            logits.softmax(1),
            batch.bounds[constraint.name],
            batch.frame,
            batch.volumes if "volume" in constraint.name else None,
        )
        term.mean.backward()
        assert term.mean > 0, constraint.name
        assert torch.isfinite(logits.grad).all(), constraint.name
        assert logits.grad.abs().sum() > 0, constraint.name


def test_a_training_asks_for_everything_at_once_and_resumes(bounded: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"device": "cpu", "quiet": True}
    sections: dict[str, Any] = {
        "training": {"augment": ["mirror", "transpose"], "warm_up": 1},
        "regularise": {"gated_crf": {"weight": 1e-3, "sigma_intensity": 0.5, "radius": 2}},
    }
    asked = [*ALL, {"size": {"class": "LV", "between": [0.0, 0.5], "unit": "fraction", "penalty": "log_barrier"}}]
    asked[2] = {"centroid": {**ALL[2]["centroid"], "warm_up": 3}}
    config = tiny(bounded, entry(constraints=asked), **sections)
    unbroken = train(config, tmp_path / "unbroken", **options)
    half = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    train(half, tmp_path / "resumed", **options)
    resumed = train(config, tmp_path / "resumed", resume=True, **options)
    rows = comparable(unbroken)
    assert rows == comparable(resumed)
    last = rows[-1]
    assert all(np.isfinite(last[f"penalty: {c.name}"]) for c in teach(config, Dataset.open(bounded)).constraints)
    assert np.isfinite(last["gated_crf"]) and np.isfinite(last["validation leak: LV"])
    judged = evaluate(unbroken, "validation")
    rows_of = judged.constraints.groupby("constraint")
    assert len(rows_of) == len(asked) + 2
    known = judged.constraints[judged.constraints["known"]]
    assert known[known["constraint"].str.startswith("centroid")]["source"].str.startswith("oracle: centroid_x").all()


def test_penalties_and_their_scales_arrive(bounded: Path) -> None:
    asked = {"size": {"class": "LV", "set": "individual", "penalty": "relative_band", "tolerance": 0.1}}
    (constraint,) = teach(tiny(bounded, entry(constraints=[asked])), Dataset.open(bounded)).constraints
    assert constraint.penalty.keywords == {"tolerance": 0.1}
    assert constraint.scale == Voxels(10)
    asked = {"spread": {"class": "LV", "axis": "x", "between": [2, 5], "penalty": "log_hinge", "scale": 0.5}}
    (constraint,) = teach(tiny(bounded, entry(constraints=[asked])), Dataset.open(bounded)).constraints
    assert (constraint.penalty, constraint.scale) == (log_hinge, 0.5)


def test_a_box_is_bands_of_the_files_lines(bounded: Path) -> None:
    teaching = teach(tiny(bounded, entry(constraints=[ALL[-1]])), Dataset.open(bounded))
    (crossed,) = [c for c in teaching.constraints if isinstance(c.descriptor, BoxTightness)]
    batch = batch_of(teaching)
    lower = batch.bounds[crossed.name].lower[:, 0]
    boxes = [case.boxes[0][0] for case in teaching.train]
    lines = torch.from_numpy(np.concatenate([box[:, :, 1] - box[:, :, 0] for box in boxes]))
    counted = lower.where(lower.isfinite(), 0).unflatten(1, (2, -1)).sum(2)
    assert torch.equal(counted, lines.float())  # every line of the box is asked for once
    assert batch.frame.bands is not None
    inside = (batch.frame.bands[:, 0] > 0).flatten(1).sum(1)
    assert torch.equal(inside, lines.prod(1))


def test_half_a_box_is_refused(bounded: Path) -> None:
    path = bounded / "priors.csv"
    priors.write(path, [row for row in priors.read(path) if row.quantity != "box_y"])
    with pytest.raises(PriorsError, match="no row of the set 'box' on the box_y of Myo"):
        teach(tiny(bounded, entry(constraints=[ALL[-1]])), Dataset.open(bounded))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"centroid": {"class": "LV", "axis": "z", "between": [1, 2]}}, "centroid_z speaks of the axis z, and a slice"),
        ({"centroid": {"class": "LV", "axis": "x", "set": "nowhere"}}, "no row of the set 'nowhere' on the centroid_x"),
        ({"size": {"class": "LV+LV", "between": [1, 2]}}, r"'LV\+LV' names 'LV' twice"),
        ({"ratio": {"class": "LV:LV", "between": [1, 2]}}, "'LV:LV' is the same on both sides"),
        ({"ratio": {"class": "LV:Mio", "between": [1, 2]}}, "'Mio' is no class"),
    ],
)
def test_what_does_not_fit_the_dataset_says_so(bounded: Path, constraint: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, PriorsError), match=message):
        teach(tiny(bounded, entry(constraints=[constraint])), Dataset.open(bounded))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"centroyd": {"class": "LV"}}, "did you mean 'centroid'?"),
        ({"centroid": {"class": "LV", "axis": "x", "between": [1, 2], "unit": "mL"}}, "centroid_x has no unit 'mL'"),
        ({"centroid": {"class": "LV", "between": [1, 2]}}, "axis: Field required"),
        ({"ratio": {"class": "LV", "between": [1, 2]}}, "ratio is of a pair of classes, as LV:Myo (given: 'LV')"),
        ({"size": {"class": "LV:Myo", "between": [1, 2]}}, "size is of one class, or a union as LV+Myo"),
        ({"size": {"class": "LV", "between": [1, 2], "penalty": "quadratik"}}, "did you mean 'quadratic'?"),
        (
            {"centroid": {"class": "LV", "axis": "x", "between": [1, 2], "penalty": "log_hinge", "scale": 1}},
            "log_hinge cannot price centroid; use quadratic, linear, huber, log_barrier",
        ),
        (
            {"size": {"class": "LV", "between": [1, 2], "penalty": "size_divergence"}},
            "size_divergence cannot price size; use quadratic",
        ),
        (
            {"spread": {"class": "LV", "axis": "x", "between": [1, 2], "penalty": "log_hinge"}},
            "log_hinge takes scale: a number in the unit of the bounds here, and was given nothing",
        ),
        (
            {"spread": {"class": "LV", "axis": "x", "between": [1, 2], "scale": "image"}},
            "and was given scale: image",
        ),
        ({"compactness": {"class": "LV", "between": [0.5, 1], "per": "volume"}}, "compactness is measured in slices"),
        ({**INDIVIDUAL, "spread": {"class": "LV", "axis": "x", "between": [1, 2]}}, "is headed by one name"),
        ({}, "is headed by one name"),
        ({"size": {"class": "LV", "set": "tags", "tolerance": 0.1}}, "tolerance belongs to relative_band"),
        ({"moment": {"class": "LV", "axes": "xw", "between": [0, 1]}}, "axes"),
        ({"size": {"class": "LV", "set": "tags", "penalty": ["linear"]}}, "penalty: Input should be a valid string"),
        ({"size": ["LV"]}, "size"),
        ({"size": None}, "is headed by one name"),
    ],
)
def test_what_no_config_can_mean_says_why(constraint: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.parse({"data": {"folder": "."}, "supervision": [entry(constraints=[constraint])]})
    assert message in str(error.value)


def test_a_config_is_written_without_the_names_that_were_not_asked() -> None:
    config = Config.parse({"data": {"folder": "."}, "supervision": [entry(constraints=[TAGS, ALL[2]])]})
    assert [list(c) for c in config.model_dump()["supervision"][0]["constraints"]] == [["size"], ["centroid"]]
    assert "ratio" not in config.dump()


@pytest.mark.parametrize("name", names())
def test_every_name_leads_to_a_quantity(name: str) -> None:
    assert split(name) is not None
    assert split(name + "_w") is None


def test_a_case_of_another_entry_is_measured_in_peace(bounded: Path, tmp_path: Path) -> None:
    """Hybrid training: what one entry asks of the image, the batches of the other carry as well."""
    asked = {"intensity": {"class": "LV", "between": [0, None], "scale": 100}}
    config = tiny(
        bounded, entry("full", "patient1"), entry(constraints=[asked]), training={"epochs": 1, "batch_size": 1}
    )
    assert len(train(config, tmp_path / "run", device="cpu", quiet=True).metrics()) == 1


def test_constraints_of_one_name_keep_their_own_bounds(bounded: Path) -> None:
    asked = [{"size": {"class": "LV", "between": [0, most], "unit": "px"}} for most in (50, 100, 150)]
    teaching = teach(tiny(bounded, entry(constraints=asked)), Dataset.open(bounded))
    names_of = [constraint.name for constraint in teaching.constraints]
    assert len(set(names_of)) == 3
    batch = batch_of(teaching)
    assert [batch.bounds[name].upper[0, 0].item() for name in names_of] == [50, 100, 150]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("patient1_frame1", 1), "'patient1_frame1' is no case of this dataset; did you mean 'patient1_frame01'?"),
        (("patient1_frame01", 9), "patient1_frame01 has slices 0 to 4, and a row speaks of slice 9"),
    ],
)
def test_rows_about_nothing_end_a_training_before_it_begins(bounded: Path, row: tuple[str, int], message: str) -> None:
    path = bounded / "priors.csv"
    rows = priors.read(path)
    first = next(r for r in rows if r.quantity == "centroid_x")
    priors.write(path, [*rows, type(first)(**{**vars(first), "case": row[0], "slice": row[1]})])
    with pytest.raises(PriorsError, match=re.escape(message)):
        teach(tiny(bounded, entry(constraints=[ALL[2]])), Dataset.open(bounded))


def test_a_channel_that_images_do_not_have_is_refused(bounded: Path) -> None:
    asked = {"intensity": {"class": "LV", "channel": 3, "between": [0, None]}}
    with pytest.raises(ConfigError, match="there is no channel 3: images have 1"):
        teach(tiny(bounded, entry(constraints=[asked])), Dataset.open(bounded))
