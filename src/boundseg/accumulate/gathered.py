"""What all chunks of a step add up to, on this process and on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boundseg.accumulate.ranks import Ranks
from boundseg.constraints import Bounds, Constraint, Groups, Term, Totals
from boundseg.constraints.precision import best_precision
from boundseg.errors import BoundsError
from boundseg.losses import Elsewhere, Share

NOBODY = -1  # the number of a volume that is none


@dataclass(frozen=True)
class Part:
    """What is kept of a chunk between the passes: numbers per image and per volume, nothing per voxel.

    Attributes:
        share: What it adds.
        volumes: Which of its images are of one volume.
        bounds: By the name of each constraint.
        rows: The numbers of its volumes.
        slices: The numbers of its images, where they have any.
        images: How many there are.
    """

    share: Share
    volumes: Groups
    bounds: Mapping[str, Bounds]
    rows: Int[Tensor, " G"]
    slices: Int[Tensor, " B"] | None
    images: int


@dataclass(frozen=True)
class Gathered:
    """A whole step.

    Attributes:
        numbers: Of its volumes, on all processes.
        totals: For each constraint of volumes, a row per volume.
        bounds: Likewise, what any chunk knows.
        terms: What these constraints found.
        counts: By what each mean divides, as in :attr:`~boundseg.losses.Elsewhere.counts`.
        own: Likewise, on this process.
        places: For each chunk, which row each of its volumes is.
    """

    numbers: Int[Tensor, " U"]
    totals: dict[str, Totals]
    bounds: dict[str, Bounds]
    terms: dict[str, Term]
    counts: dict[str, Float[Tensor, ""]]
    own: dict[str, Float[Tensor, ""]]
    places: list[Tensor]

    def of_chunk(self, index: int, own: Mapping[str, Bounds]) -> dict[str, Bounds]:
        """The bounds of the chunk of that index, those of its volumes as all chunks together know them."""
        place = self.places[index]
        known = {n: Bounds._like(whole.lower[place], whole.upper[place]) for n, whole in self.bounds.items()}
        return {**own, **known}

    def elsewhere(self, index: int, part: Part) -> Elsewhere:
        """What is not in the chunk of that index."""
        place = self.places[index]
        totals = {
            name: whole.rows(place) - part.share.totals[name].grouped(part.volumes)
            for name, whole in self.totals.items()
        }
        counts = {name: count - part.share.counts.get(name, 0) for name, count in self.counts.items()}
        for name, term in self.terms.items():
            counts[name] = counts[name] - term.bounds.known[place].sum()
        return Elsewhere(totals, counts)


def gather(
    constraints: Sequence[Constraint], parts: Sequence[Part], t: float | Tensor, ranks: Ranks | None
) -> Gathered:
    """Adds the chunks of all processes up, and prices the volumes.

    Reads the numbers of the volumes from the device, and whether chunks agree about each.

    Raises:
        ValueError: Chunks of a step differ in the constraints they name, or a volume is not among ``ranks.volumes``.
        BoundsError: They know different bounds of a volume.
    """
    first = parts[0].share
    volume = [c for c in constraints if c.name in first.totals]
    if any(set(part.bounds) != set(parts[0].bounds) for part in parts):
        raise ValueError(
            "the chunks of a step have bounds for different constraints: give all of them in each chunk, unknown ones "
            "where nothing is known"
        )
    counts = {name: torch.stack([part.share.counts[name] for part in parts]).sum() for name in first.counts}
    own = dict(counts)
    read = torch.cat([part.rows for part in parts]).tolist() if volume else []
    numbers = sorted(set(read))
    columns = _Columns(volume, parts, numbers)
    table = columns.table()
    if ranks is not None:
        numbers, table, counts = _over_ranks(ranks, ranks.numbers if volume else [], numbers, table, counts)
    device = table.device
    totals, bounds, members = columns.read(table)
    row_of = {number: row for row, number in enumerate(numbers)}
    places = _places(parts, read, row_of, device) if volume else [part.rows[:0] for part in parts]
    for constraint in volume:
        _require_agreement(constraint.name, parts, places, bounds[constraint.name], numbers)
    terms = {c.name: c.price(totals[c.name], bounds[c.name], members, t) for c in volume}
    counts |= {name: term.bounds.known.sum() for name, term in terms.items()}
    return Gathered(torch.tensor(numbers, device=device, dtype=torch.long), totals, bounds, terms, counts, own, places)


class _Columns:
    """A table with a row for each volume of a step, and in its columns all that is known of it.

    Columns: how many processes (1) hold the volume; of how many images it consists, as often as that; and for each
    constraint its totals, how many chunks know each side of its bounds, and these sides, as often as that.
    """

    def __init__(self, constraints: Sequence[Constraint], parts: Sequence[Part], numbers: Sequence[int]) -> None:
        self._constraints, self._parts, self._numbers = constraints, parts, numbers
        self._device = parts[0].rows.device
        self._dtype = best_precision(self._device)

    def table(self) -> Float[Tensor, "U width"]:
        count, parts = len(self._numbers), self._parts
        if not self._constraints:
            return torch.zeros(0, 2, dtype=self._dtype, device=self._device)
        read = torch.cat([part.rows for part in parts])
        place = torch.searchsorted(torch.tensor(self._numbers, device=self._device), read)
        held = torch.ones(count, 1, dtype=self._dtype, device=self._device)
        members = held.new_zeros(count).index_put((place,), self._joined([p.volumes.parts for p in parts]))
        columns = [held, members.unsqueeze(1)]
        firsts = [0]
        for part in parts:
            firsts.append(firsts[-1] + len(part.rows))
        of_images = torch.cat([place[part.volumes.index + first] for part, first in zip(parts, firsts, strict=False)])
        for constraint in self._constraints:
            name = constraint.name
            packed = torch.cat([part.share.totals[name].packed() for part in parts])
            columns.append(packed.new_zeros(count, packed.shape[1]).index_add(0, of_images, packed))
            shape = self._shape(constraint)
            lower, upper = (
                self._joined([getattr(p.bounds[name], side).expand(len(p.rows), *shape) for p in parts]).flatten(1)
                for side in ("lower", "upper")
            )
            for bound in (lower, upper):
                known = bound.isfinite()
                pair = (known.to(self._dtype), bound.where(known, 0))
                columns += [side.new_zeros(count, side.shape[1]).index_add(0, place, side) for side in pair]
        return torch.cat(columns, 1)

    def read(self, table: Float[Tensor, "U width"]) -> tuple[dict[str, Totals], dict[str, Bounds], Tensor]:
        """Totals, bounds, and numbers of images."""
        held, members, rest = table[:, :1], table[:, 1], table[:, 2:]
        totals: dict[str, Totals] = {}
        bounds: dict[str, Bounds] = {}
        for constraint in self._constraints:
            like, shape = self._parts[0].share.totals[constraint.name], self._shape(constraint)
            width, values = like.packed().shape[1], torch.Size(shape).numel()
            own, *sides, rest = torch.split(rest, [width, *[values] * 4, rest.shape[1] - width - 4 * values], dim=1)
            totals[constraint.name] = like.unpacked(own)
            know_below, below, know_above, above = sides
            # the mean of equal numbers; those who know nothing of a side have no part in it
            lower = (below / know_below).where(know_below > 0, -torch.inf).reshape(-1, *shape)
            upper = (above / know_above).where(know_above > 0, torch.inf).reshape(-1, *shape)
            bounds[constraint.name] = Bounds(lower, upper)
        return totals, bounds, (members / held[:, 0]).round().long()

    def _shape(self, constraint: Constraint) -> tuple[int, ...]:
        """Of a volume's values."""
        sums = self._parts[0].share.totals[constraint.name].sums
        return tuple(constraint.descriptor.value(sums).shape[1:])

    def _joined(self, columns: Sequence[Tensor]) -> Tensor:
        return torch.cat([column.to(self._dtype) for column in columns])


def _over_ranks(
    ranks: Ranks, of_all: Sequence[int], numbers: list[int], table: Tensor, counts: Mapping[str, Tensor]
) -> tuple[list[int], Tensor, dict[str, Tensor]]:
    """The volumes of all processes, and what all add up to: one reduction of one tensor."""
    row_of = {number: row for row, number in enumerate(of_all)}
    here = [row for row, number in enumerate(numbers) if number != NOBODY]
    for number in (numbers[row] for row in here):
        if number not in row_of:
            raise ValueError(f'rows["volume"] holds {number}, which is not among the volumes that ranks.volumes says')
    all_volumes = table.new_zeros(len(of_all), table.shape[1])
    if here:
        known = torch.tensor([row_of[numbers[row]] for row in here], device=table.device)
        all_volumes[known] = table[torch.tensor(here, device=table.device)]
    flat = torch.cat([all_volumes.flatten(), torch.stack([*counts.values()]).to(table.dtype)])
    flat = ranks.add(flat)
    added, last = torch.split(flat, [all_volumes.numel(), len(counts)])
    added = added.reshape(all_volumes.shape)
    there = (added[:, 0] > 0).nonzero().flatten()
    rows, found = added[there], [of_all[row] for row in there.tolist()]
    if NOBODY in numbers:
        found, rows = [NOBODY, *found], torch.cat([table[:1], rows])
    return found, rows, dict(zip(counts, last.unbind(), strict=True))


def _places(
    parts: Sequence[Part], read: Sequence[int], row_of: Mapping[int, int], device: torch.device
) -> list[Tensor]:
    places = torch.tensor([row_of[number] for number in read], device=device)
    return list(torch.split(places, [len(part.rows) for part in parts]))


def _require_agreement(
    name: str, parts: Sequence[Part], places: Sequence[Tensor], agreed: Bounds, numbers: Sequence[int]
) -> None:
    """Refuses a volume of which chunks know different bounds: then some differ from the mean of all that know it."""
    for side in ("lower", "upper"):
        of_all = torch.cat([getattr(agreed, side)[place] for place in places])
        rows = zip(parts, places, strict=True)
        own = torch.cat(
            [getattr(p.bounds[name], side).to(of_all.dtype).expand(len(at), *of_all.shape[1:]) for p, at in rows]
        )
        differ = own.isfinite() & ~torch.isclose(own, of_all, rtol=1e-6, atol=0)
        if differ.any():
            index = differ.nonzero()[0].tolist()
            row = int(torch.cat([*places])[index[0]])
            raise BoundsError(
                f"{name}: the chunks of a step know different {side} bounds of volume {numbers[row]}: one says "
                f"{float(own[tuple(index)]):g}, and the mean of all is {float(of_all[tuple(index)]):g}.",
                remedy="Give each chunk the same bounds of a volume, or -inf and inf where it knows none.",
            )
