"""From constraints in a config to demands: a constraint, and what is known for it of each case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from boundseg.asked.constraints import AskedConfig, BoundsConfig, BoxConfig, ConstraintConfig, SizeConfig
from boundseg.constraints import (
    QUANTITIES,
    BoxSize,
    BoxTightness,
    Constraint,
    Descriptor,
    Scope,
    box_bounds,
    descriptor,
)
from boundseg.data import priors
from boundseg.data.dataset import Dataset
from boundseg.data.priors import Facts, Prior
from boundseg.errors import ConfigError, PriorsError
from boundseg.nearest import did_you_mean

Side = float | Float[np.ndarray, " components"]
Pair = tuple[Side, Side]
UNKNOWN: Pair = (-math.inf, math.inf)


@dataclass(frozen=True)
class Boxes:
    """Bounding boxes of a class.

    Attributes:
        width: Lines in a band, in pixels of the file.
        of: ``of[case][slice]``: the first line and the one after the last, along both axes of a slice.
        sources: Where each came from, by the same keys.
    """

    width: int
    of: Mapping[str, Mapping[int, Int[np.ndarray, "2 2"]]]
    sources: Mapping[str, Mapping[int | None, str]]

    def lines(self, case: str, slices: int) -> Int[np.ndarray, "S 2 2"]:
        """Those of every slice of a case; (0, 0) where there is no box."""
        found = np.zeros((slices, 2, 2), np.int64)
        _require_slices(case, self.of.get(case, {}), slices)
        for index, box in self.of.get(case, {}).items():
            found[index] = box
        return found


@dataclass(frozen=True)
class Demand:
    """A constraint, and what is known for it of each case.

    Attributes:
        constraint: What is asked.
        known: ``known[case][slice]``, lower and upper; the slice is None for volumes.
        elsewhere: What holds of everything that ``known`` does not name.
        sources: Where each bound came from, by the keys of ``known``.
        components: How many components a value has, 0 for a plain number.
        boxes: The boxes that the constraint's descriptor looks for in the frame.
        reads_image: Whether it measures the image.
        warm_up: Epochs over which its weight grows from 0; None leaves that to the training.
    """

    constraint: Constraint
    known: Mapping[str, Mapping[int | None, Pair]]
    elsewhere: Pair = UNKNOWN
    sources: Mapping[str, Mapping[int | None, str]] = field(default_factory=dict)
    components: int = 0
    boxes: Boxes | None = None
    reads_image: bool = False
    warm_up: int | None = None

    def bounds(self, case: str, slices: int) -> Float[np.ndarray, "2 rows 1 *components"]:
        """Lower and upper bounds of a case's slices (or of the volume, one row)."""
        of_case = self.known.get(case, {})
        _require_slices(case, of_case, slices)
        keys = [None] if self.constraint.scope == "volume" else range(slices)
        return self._table([of_case.get(key, self.elsewhere) for key in keys])

    def silence(self, slices: int) -> Float[np.ndarray, "2 rows 1 *components"]:
        """Bounds that say nothing, for a case that is taught by other demands."""
        return self._table([UNKNOWN] * (1 if self.constraint.scope == "volume" else slices))

    def source(self, case: str, index: int | None) -> str:
        """Where a bound came from, in words."""
        return self.sources.get(case, {}).get(index, "" if self.elsewhere == UNKNOWN else "the config")

    def knows(self, case: str) -> bool:
        """Whether anything is known of a case."""
        return self.elsewhere != UNKNOWN or case in self.known

    def _table(self, pairs: Sequence[Pair]) -> np.ndarray:
        shape = (self.components,) if self.components else ()
        sides = [[np.broadcast_to(side, shape) for side in pair] for pair in pairs]
        return np.moveaxis(np.asarray(sides, np.float32), 1, 0)[:, :, None]


def _require_slices(case: str, known: Iterable[int | None], slices: int) -> None:
    for index in known:
        if index is not None and not 0 <= index < slices:
            raise PriorsError(
                f"{case} has slices 0 to {slices - 1}, and a row speaks of slice {index}.",
                remedy="Count slices from 0; boundseg check lists all such rows.",
            )


def demands(
    constraints: Sequence[ConstraintConfig], dataset: Dataset, key: str = "supervision.constraints"
) -> list[Demand]:
    """What constraints of a config ask, one demand for each unit and scope in which something is known.

    Args:
        constraints: As they were read.
        dataset: Whose classes they name.
        key: Under which they stand in the file, for messages.

    Raises:
        InputError: An unknown class or set, or a priors.csv that cannot be read.
    """
    found: list[Demand] = []
    for constraint in constraints:
        asked = constraint.asked
        where = f"{key}.{asked.family}"
        try:
            regions = dataset.regions(asked.class_)
        except KeyError as error:
            raise ConfigError(str(error.args[0]), f"{where}.class") from None
        if isinstance(asked, BoxConfig):
            found += _of_boxes(asked, regions, dataset, where)
            continue
        for facts, elsewhere in _facts(asked, dataset):
            scope: Scope = "volume" if facts.of_volume else "slice"
            axes = dataset.axes if facts.of_volume else dataset.axes[:2]
            if facts.of_volume and not QUANTITIES[asked.family].of_volumes:
                raise ConfigError(f"{asked.quantity} is measured in slices; a volume of slices has none.", where)
            name = f"{asked.quantity} {asked.class_} {_origin(asked)} per {scope} in {facts.unit}"
            try:
                measured = descriptor(asked.quantity, facts.unit, axes)
                asks = _constraint(asked, name, measured, regions, scope)
            except ValueError as error:
                raise ConfigError(f"{error}.", where) from None
            _require_channel(asked, dataset, where)
            found.append(
                Demand(
                    asks,
                    facts.bounds,
                    elsewhere,
                    facts.sources,
                    reads_image=QUANTITIES[asked.family].reads_image,
                    warm_up=asked.warm_up,
                )
            )
    return found


def _constraint(
    asked: AskedConfig, name: str, measured: Descriptor, regions: tuple[tuple[int, ...], ...], scope: Scope
) -> Constraint:
    return Constraint(
        name,
        measured,
        regions,
        scope,
        asked.priced_by,
        asked.measured_by,
        asked.weight,
        asked.sharpness,
    )


def _require_channel(asked: BoundsConfig, dataset: Dataset, where: str) -> None:
    channel = getattr(asked, "channel", 0)
    if channel >= len(dataset.channels):
        raise ConfigError(
            f"there is no channel {channel}: images have {len(dataset.channels)} ({', '.join(dataset.channels)}).",
            f"{where}.channel",
            "Count from 0.",
        )


def _of_boxes(asked: BoxConfig, regions: tuple[tuple[int, ...], ...], dataset: Dataset, where: str) -> list[Demand]:
    """Three demands at most: bands are crossed, nothing is outside, the inside is filled to a share."""
    boxes = _boxes(asked, dataset)
    known = {(case, index): box for case, of_case in boxes.of.items() for index, box in of_case.items()}
    bands = max(int((box[:, 1] - box[:, 0]).max()) // asked.width for box in known.values()) or 1

    def demand(what: str, measured: Descriptor, bounds: Mapping[tuple[str, int], Pair], components: int = 0) -> Demand:
        name = f"box {asked.class_} {asked.set} {what}"
        of_case: dict[str, dict[int | None, Pair]] = {}
        for (case, index), pair in bounds.items():
            of_case.setdefault(case, {})[index] = pair
        try:
            constraint = _constraint(asked, name, measured, regions, "slice")
        except ValueError as error:
            raise ConfigError(f"{error}.", where) from None
        return Demand(
            constraint, of_case, sources=boxes.sources, components=components, boxes=boxes, warm_up=asked.warm_up
        )

    lines = {
        key: box_bounds(torch.from_numpy(box)[None], asked.width, bands).lower.flatten().numpy()
        for key, box in known.items()
    }
    found = [
        demand(
            "crossed per slice in px",
            BoxTightness(bands),
            {key: (lower, math.inf) for key, lower in lines.items()},
            2 * bands,
        )
    ]
    if asked.outside:
        found.append(demand("outside per slice in px", BoxSize("outside"), dict.fromkeys(known, (-math.inf, 0.0))))
    if asked.fill is not None:
        found.append(
            demand(
                "filled per slice in fraction", BoxSize("inside", "fraction"), dict.fromkeys(known, _pair(asked.fill))
            )
        )
    return found


def _boxes(asked: BoxConfig, dataset: Dataset) -> Boxes:
    path, name = dataset.folder / asked.from_, asked.set or "box"
    rows = priors.read(path)
    found: dict[str, dict[int, np.ndarray]] = {}
    sources: dict[str, dict[int | None, str]] = {}
    for direction, letter in enumerate(dataset.axes[:2]):
        for facts in _look_up(rows, f"box_{letter}", asked.class_, name, str(path), dataset):
            sources |= facts.sources
            for case, of_case in facts.bounds.items():
                for index, (first, last) in of_case.items():
                    if index is None or not math.isfinite(last - first):
                        raise PriorsError(
                            f"{case}: a box_{letter} of {asked.class_} has no slice, or no first or last line.",
                            str(path),
                            "A box is given in each slice by its first line (lower) and its last (upper).",
                        )
                    box = found.setdefault(case, {}).setdefault(index, np.zeros((2, 2), np.int64))
                    box[direction] = round(first), round(last) + 1
    for case, boxes in found.items():
        for index, box in boxes.items():
            if (box[:, 1] <= box[:, 0]).any():
                raise PriorsError(
                    f"{case}, slice {index}, {asked.class_}: one side of the box is missing.",
                    str(path),
                    f"Give both box_{dataset.axes[0]} and box_{dataset.axes[1]}.",
                )
    return Boxes(asked.width, found, sources)


def _facts(asked: BoundsConfig, dataset: Dataset) -> list[tuple[Facts, Pair]]:
    if asked.between is not None:
        return [(Facts(asked.unit, asked.per == "volume"), _pair(asked.between))]
    path = dataset.folder / asked.from_
    rows = priors.read(path)
    if asked.set is not None:
        return [
            (facts, UNKNOWN) for facts in _look_up(rows, asked.quantity, asked.class_, asked.set, str(path), dataset)
        ]
    assert isinstance(asked, SizeConfig), "the config has checked that there is a source"
    tags = _look_up(rows, "size", asked.class_, asked.tags, str(path), dataset)
    bounds: dict[str, dict[int | None, tuple[float, float]]] = {}
    for facts in tags:
        for case, of_case in facts.bounds.items():
            for index, (lower, upper) in of_case.items():
                known = asked.present if lower > 0 else asked.absent if upper == 0 else None
                bounds.setdefault(case, {})[index] = _pair(known or (None, None))
    return [(Facts(asked.unit, tags[0].of_volume, bounds, tags[0].sources), UNKNOWN)]


def _look_up(rows: Sequence[Prior], quantity: str, region: str, name: str, path: str, dataset: Dataset) -> list[Facts]:
    facts = priors.look_up(rows, set=name, quantity=quantity, region=region)
    if not facts:
        known = sorted({row.set for row in rows if row.region == region and row.quantity == quantity})
        raise PriorsError(
            f"there is no row of the set {name!r} on the {quantity} of {region}{did_you_mean(name, known)}",
            path,
            f"The sets there are: {', '.join(known) or 'none'}. boundseg priors derives more.",
        )
    nowhere = sorted({case for of_unit in facts for case in of_unit.bounds} - set(dataset.cases))
    if nowhere:
        raise PriorsError(
            f"{nowhere[0]!r} is no case of this dataset{did_you_mean(nowhere[0], dataset.cases)}",
            path,
            "Mend the name; boundseg check lists all such rows.",
        )
    return facts


def _origin(asked: BoundsConfig) -> str:
    if asked.between is not None:
        return "everywhere"
    return asked.set or (asked.tags if isinstance(asked, SizeConfig) else "")


def _pair(pair: tuple[float | None, float | None]) -> tuple[float, float]:
    lower, upper = pair
    return (-math.inf if lower is None else lower, math.inf if upper is None else upper)
