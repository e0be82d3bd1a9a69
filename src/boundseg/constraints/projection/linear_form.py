"""Bounds on values as bounds on sums that are linear in the probabilities: what a projection can keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.constraint import Constraint
from boundseg.constraints.descriptors import Centroid, Intensity, Size
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.projection.problem import Regions, fractional_form


@dataclass(frozen=True)
class LinearForm:
    """What :func:`~boundseg.constraints.projection.project` takes.

    Attributes:
        regions: J tuples of class indices.
        bounds: [G, J], on sizes in voxels of the case where there are no potentials.
        potentials: [J, B, *space]; None where all sums are sizes.
        contradictory: The groups of which two bounds exclude each other by themselves; those are unknown here.
    """

    regions: Regions
    bounds: Bounds
    potentials: Float[Tensor, "J B *space"] | None
    contradictory: Bool[Tensor, " G"]


def require_linear(constraint: Constraint) -> None:
    """Raises ValueError where a constraint is not linear in the probabilities."""
    measured = constraint.descriptor
    linear = isinstance(measured, (Size, Centroid)) or (isinstance(measured, Intensity) and measured.of == "mean")
    if not linear or constraint.sharpness != 1:
        what = f"its sharpness is {constraint.sharpness:g}" if linear else f"it measures {type(measured).__name__}"
        raise ValueError(
            f"{constraint.name}: {what}, and a projection keeps what is linear in the probabilities: "
            "sizes, centroids and mean intensities, of sharpness 1"
        )


def linear_form(
    constraints: Sequence[Constraint],
    bounds: Sequence[Bounds],
    frame: Frame,
    groups: Groups,
    space: Sequence[int],
) -> LinearForm:
    r"""Constraints of one scope, together.

    Bounds on sizes are brought into voxels of the case by the spacing and the grid of each group's images; those of one
    region become one, the narrower. Bounds in ``grid_px`` leave padding out, where a voxel weighs nothing; where the
    voxels of a group weigh unlike, they are of a sum with the potential 1 / w. Bounds on a centroid or a mean intensity
    become two each, see :func:`~boundseg.constraints.projection.fractional_form`.

    Args:
        constraints: Of sizes, centroids or mean intensities.
        bounds: Of each, [G, R] (and components), as in :attr:`boundseg.constraints.Term.bounds`.
        frame: Where the voxels lie.
        groups: What belongs together.
        space: Lengths of the predicted axes.

    Raises:
        ValueError: A constraint that is not linear in the probabilities.
    """
    sizes: dict[tuple[int, ...], Bounds] = {}
    regions: list[tuple[int, ...]] = []
    sides: list[Bounds] = []
    potentials: list[Tensor] = []
    for constraint, known in zip(constraints, bounds, strict=True):
        require_linear(constraint)
        measured = constraint.descriptor
        if isinstance(measured, Size) and measured.unit == "grid_px" and _uneven(frame, groups):
            inverse = torch.where(frame.weight > 0, 1 / frame.weight, 0).expand(-1, *space)
            for column, region in enumerate(constraint.regions):
                regions.append(region)
                potentials.append(inverse)
                sides.append(Bounds._like(known.lower[:, column], known.upper[:, column]))
            continue
        if isinstance(measured, Size):
            in_voxels = known.times(_voxels_per_unit(measured, frame, groups, space).unsqueeze(1))
            for column, region in enumerate(constraint.regions):
                own = Bounds._like(in_voxels.lower[:, column], in_voxels.upper[:, column])
                key = tuple(sorted(region))
                sizes[key] = _narrower(sizes[key], own) if key in sizes else own
            continue
        for column, region in enumerate(constraint.regions):
            for potential, own in _means(measured, known, column, frame, space):
                pair, both = fractional_form(potential, own, groups)
                regions += [region, region]
                potentials += list(pair)
                sides += [Bounds._like(both.lower[:, j], both.upper[:, j]) for j in (0, 1)]
    if potentials:
        potentials = [torch.ones_like(potentials[0])] * len(sizes) + potentials
    all_sides = [*sizes.values(), *sides]
    lower, upper = (torch.stack([getattr(own, side) for own in all_sides], 1) for side in ("lower", "upper"))
    apart = lower > upper
    return LinearForm(
        (*sizes, *regions),
        Bounds._like(lower, upper).only(~apart),
        torch.stack(potentials) if potentials else None,
        apart.any(1),
    )


def _voxels_per_unit(size: Size, frame: Frame, groups: Groups, space: Sequence[int]) -> Float[Tensor, " G"]:
    """How many voxels of the case one unit of a size is."""
    if size.unit == "grid_px":
        return _mean_weight(frame, groups)
    if size.unit == "fraction":  # a share is of all of a group's images
        return groups.add(frame.owned(frame.weight.expand(-1, *space)).flatten(1).sum(1))
    per_predicted = size.per_voxel(frame, torch.Size(space).numel())
    return groups.mean(frame.voxels_per_voxel) / groups.mean(per_predicted)


def _mean_weight(frame: Frame, groups: Groups) -> Float[Tensor, " G"]:
    """Of the voxels of each group that count."""
    weight = frame.weight.flatten(1)
    return groups.add(weight.sum(1)) / groups.add((weight > 0).sum(1).to(weight.dtype)).clamp(min=1)


def _uneven(frame: Frame, groups: Groups) -> bool:
    """Whether voxels of a group that count do so unlike. The host looks; compiled code, which cannot, has to take it
    for so."""
    if torch.compiler.is_compiling():
        return True
    weight, mean = frame.weight.flatten(1), _mean_weight(frame, groups)[groups.index].unsqueeze(1)
    return bool(((weight > 0) & ((weight - mean).abs() > 1e-5 * mean)).any())


def _narrower(one: Bounds, other: Bounds) -> Bounds:
    return Bounds._like(torch.maximum(one.lower, other.lower), torch.minimum(one.upper, other.upper))


def _means(
    measured: object, known: Bounds, column: int, frame: Frame, space: Sequence[int]
) -> list[tuple[Float[Tensor, "B *space"], Bounds]]:
    """The potentials of which a region's means are bounded, and the bounds, [G]."""
    lower, upper = known.lower[:, column], known.upper[:, column]
    if isinstance(measured, Intensity):
        assert frame.image is not None, "the term has been measured"
        return [(frame.image[:, measured.channel], Bounds._like(lower, upper))]
    assert isinstance(measured, Centroid)
    position = frame.coordinates(torch.Size(space), measured.unit)
    if measured.axis is not None:
        return [(position[:, measured.axis], Bounds._like(lower, upper))]
    return [(position[:, axis], Bounds._like(lower[:, axis], upper[:, axis])) for axis in range(lower.shape[1])]
