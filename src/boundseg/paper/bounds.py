"""Bounds that rows ask for by the names of their sets: found in priors.csv, or derived as ``boundseg priors`` does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from boundseg.constraints.quantities import split
from boundseg.data import derive, priors
from boundseg.data.dataset import SPLITS, Dataset
from boundseg.data.misjudged import Misjudged
from boundseg.data.priors import Prior
from boundseg.errors import DatasetError
from boundseg.nearest import did_you_mean
from boundseg.paper.rows import Base

# what may follow ``individual`` and ``volume``, joined by _ and in this order
CHANGED = re.compile(
    r"(individual|volume)(_exact)?(_px)?(?:_error(?P<error>\d+))?(?:_margin(?P<margin>\d+))?(?:_within(?P<within>\d+))?"
)


@dataclass(frozen=True)
class Wanted:
    """Rows of priors.csv.

    Attributes:
        set: Their set: ``tags``, ``common``, or ``individual`` or ``volume``, and what is not as usual of it:
            ``_exact`` (no margin), ``_px`` (in pixels), ``_error30`` (measured wrongly by up to 30 %), ``_margin30``
            (widened by 30 % in place of 10 %), ``_within10`` (widened by 10, in the unit, in place of a share).
        quantity: What they bound.
    """

    set: str
    quantity: str = "size"

    def __str__(self) -> str:
        return self.set if self.quantity == "size" else f"{self.set} of {self.quantity}"


def provide_bounds(
    dataset: Dataset, wanted: Sequence[Wanted], base: Base, patient: str | None, report: Callable[[str], None]
) -> None:
    """Derives rows that are not in priors.csv yet; what is there is left as it is.

    Raises:
        DatasetError: A set of a name that says no derivation.
    """
    path = dataset.folder / "priors.csv"
    rows = priors.read(path) if path.is_file() else []
    added = False
    for one in wanted:
        known = {(row.case, row.region) for row in rows if row.set == one.set and row.quantity == one.quantity}
        # tags and common bounds need weak labels, which only those have who teach or are held out
        cases = teaching(dataset) if one.set in ("tags", "common") else masked(dataset)
        missing = [case for case in cases if any((case, region) not in known for region in base.targets)]
        if not missing:
            continue
        derivation = _derivation(one, dataset, base, patient)
        if derivation is None:
            raise DatasetError(f"there is no set {one.set!r} of bounds.", str(path), "boundseg priors derives one.")
        more = " more" if known else ""
        report(f"priors.csv: bounds {str(one)!r} of {len(missing)}{more} volumes")
        found = [replace(row, set=one.set) for row in derivation(missing)]
        derived = product([one.set], [one.quantity], base.targets, missing, [one.set.startswith("volume")])
        rows = priors.merge(rows, found, derived)
        added = True
    if added:
        priors.write(path, rows)


def _derivation(
    one: Wanted, dataset: Dataset, base: Base, patient: str | None
) -> Callable[[list[str]], list[Prior]] | None:
    """What derives the rows of cases; None where the name of the set does not say."""
    regions = list(base.targets)
    if one.set == "tags":
        return lambda cases: derive.tags(dataset, cases, regions, base.presence, "absent")
    if one.set == "common":
        annotated = annotated_patient(dataset, base, patient)
        return lambda cases: derive.common(dataset, cases, regions, base.presence, annotated, empty="absent")
    changed, quantity = CHANGED.fullmatch(one.set), split(one.quantity)
    if changed is None or quantity is None:
        return None
    kind, exact, px = changed[1], changed[2], changed[3]
    usual = 0.0 if exact or changed["within"] or quantity[0].signed else 0.1
    unit = ("mL" if kind == "volume" else "px") if one.quantity == "size" else quantity[0].units[0]
    function = derive.volume if kind == "volume" else derive.individual
    return lambda cases: function(
        dataset,
        cases,
        regions,
        quantity=one.quantity,
        margin=int(changed["margin"]) / 100 if changed["margin"] else usual,
        absolute=float(changed["within"] or 0),
        unit="px" if px else unit,
        misjudged=Misjudged(int(changed["error"] or 0) / 100),
    )


def sources(dataset: Dataset, wanted: Iterable[Wanted], base: Base) -> dict[str, str]:
    """For every set of bounds where most of its rows came from, the commonest first, two at most."""
    path = dataset.folder / "priors.csv"
    wanted = list(wanted)
    rows = [row for row in priors.read(path) if row.region in base.targets] if wanted else []
    found = {}
    for one in wanted:
        counts = Counter(row.source for row in rows if row.set == one.set and row.quantity == one.quantity)
        told = [f"{source} ({count} rows)" for source, count in counts.most_common(2)]
        found[f"bounds {one}"] = "; ".join(told) + (" …" if len(counts) > 2 else "")
    return found


def annotated_patient(dataset: Dataset, base: Base, patient: str | None = None) -> str:
    """Whose full masks give the common bounds: the one who is named, the base's, or the first one who trains.

    Raises:
        DatasetError: The one who is named is none of those who train.
    """
    trains = dataset.splits.lists["train"]
    asked = base.patient if patient is None else patient
    # by volume, a patient is one of his volumes
    own = [name for name in trains if asked and (name == asked or name.startswith(f"{asked}_"))]
    if patient is not None and not own:
        raise DatasetError(
            f"{patient} is not in the list 'train'{did_you_mean(patient, trains)}",
            str(dataset.folder / "splits.json"),
            f"Give --patient another, such as {', '.join(trains[:3])}.",
        )
    return (own or trains)[0]


def teaching(dataset: Dataset) -> list[str]:
    """The cases of those who train and of those who are held out."""
    return [case for name in ("train", "validation") for case in dataset.cases_of(name)]


def masked(dataset: Dataset) -> list[str]:
    """The cases of all splits, those that train first."""
    return list(dict.fromkeys(case for name in SPLITS for case in dataset.cases_of(name)))
