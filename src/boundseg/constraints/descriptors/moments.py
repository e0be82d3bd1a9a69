"""All moments of a region up to an order, in one pass over its voxels, whatever affine map moved them."""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from boundseg.constraints.descriptors.fractional import fraction
from boundseg.constraints.frame import Frame, LengthUnit
from boundseg.constraints.precision import at_least_float32

ORDERS = 4


def moments(
    probs: Float[Tensor, "B R *space"], frame: Frame, order: int, unit: LengthUnit
) -> Float[Tensor, "B R flat"]:
    r"""Integrals of products of coordinates over each region.

    .. math:: T_{i_1 \dots i_n} = \int S(x) \, \tilde x_{i_1} \cdots \tilde x_{i_n} \, dx,
              \qquad \tilde x = (x_1, \dots, x_D, 1)

    One symmetric tensor with D + 1 entries a side holds every moment up to order n, since the last entry of
    :math:`\tilde x` is 1; and an affine map of the grid acts on it as a matrix on each side. So the sums are
    taken over indices, axis after axis (a product of small matrices, one pass over the probabilities), and moved
    to the case afterwards, however it was turned or stretched.

    A voxel is a box and not a point: a box's second moment about its middle is 1/12. So a block of voxels has the
    moments of that block, on a coarse grid and on a fine one.

    Args:
        probs: Regions, 2D or 3D.
        frame: Where the voxels lie. With a ``centre``, in this unit, coordinates are counted from it.
        order: n, 1 to 4.
        unit: Of the coordinates; ``mm`` also measures voxels in mm2 or mm3.

    Returns:
        The tensor, flattened to (D + 1)^n entries; float32, or float64 if given that.
    """
    probs = at_least_float32(probs)
    dtype = probs.dtype
    dims = probs.ndim - 2
    # half precision has neither the range nor the digits for sums, and autocast would put products into it
    with torch.autocast(probs.device.type, enabled=False):
        affine = frame.affine_in(unit, dims, dtype)
        steps, offset = affine[..., :-1], affine[..., -1:]
        axes = steps.shape[-1]
        mass, weight = _mass(probs, frame, unit, axes)
        if frame.centre is None:
            start = torch.zeros(1, 1, axes, dtype=dtype, device=probs.device)
        else:
            inverse = torch.linalg.inv_ex(steps).inverse  # not inv, which waits for the device
            start = (frame.centre.to(dtype) - offset.mT) @ inverse.mT
            offset = torch.zeros_like(offset)
        lengths = [*mass.shape[2:], *([1] * (axes - dims))]
        powers = [_powers(length, order, start[..., axis]) for axis, length in enumerate(lengths)]
        over_indices = _contract(mass, powers)
        products = over_indices.flatten(2).unbind(-1)
        tensor = torch.stack([products[place] for place in _entries(axes, order)], dim=-1) * weight
        return _move(tensor, torch.cat([steps, offset], dim=-1).unsqueeze(1), order)


def split(sums: Float[Tensor, "G R flat"], order: int) -> Float[Tensor, "G R *sides"]:
    """The tensor of flattened sums."""
    side = round(sums.shape[-1] ** (1 / order))
    return sums.reshape(*sums.shape[:2], *([side] * order))


def central(sums: Float[Tensor, "G R flat"], order: int) -> Float[Tensor, "G R *sides"]:
    """The tensor about the region's own centroid; of nothing, 0."""
    tensor = split(sums, order)
    last = tensor.shape[-1] - 1
    first = sums[..., -(last + 1) :]
    shift = -fraction(first[..., :last], first[..., last:])
    eye = torch.eye(last, dtype=sums.dtype, device=sums.device).expand(*shift.shape, last)
    return split(_move(sums, torch.cat([eye, shift.unsqueeze(-1)], dim=-1), order), order)


def _mass(probs: Tensor, frame: Frame, unit: LengthUnit, axes: int) -> tuple[Tensor, Tensor | float]:
    """The probabilities to be summed, and what remains to be multiplied to their sums."""
    weight = frame.weight.to(probs.dtype)
    volume = frame.spacing("mm", axes).to(probs.dtype).prod(1).reshape(-1, 1, 1) if unit == "mm" else 1.0
    if weight.shape[1:].numel() == 1:
        return frame.owned(probs), weight.reshape(-1, 1, 1) * volume
    return frame.mass(probs), volume


def _powers(length: int, order: int, start: Float[Tensor, "B R"]) -> Float[Tensor, "B R length powers"]:
    """The mean of each power of an index over the voxel there, a box of side 1."""
    d = torch.arange(length, dtype=start.dtype, device=start.device) - start.unsqueeze(-1)
    square = d * d
    means = [torch.ones_like(d), d, square + 1 / 12, (square + 1 / 4) * d, square * square + square / 2 + 1 / 80]
    return torch.stack(means[: order + 1], dim=-1)


def _contract(mass: Float[Tensor, "B R *space"], powers: list[Tensor]) -> Float[Tensor, "B R *powers"]:
    """Sums over one axis after the other, each weighted by the powers of its index."""
    dims = mass.ndim - 2
    for axis in reversed(range(dims)):
        # the axis to be summed comes last, what was summed before stays behind the batch
        basis = powers[axis].reshape(*powers[axis].shape[:2], *([1] * (dims - 2)), *powers[axis].shape[2:])
        mass = _product(mass, basis).movedim(-1, 2)
    for basis in powers[dims:]:
        mass = mass.unsqueeze(-1) * basis.reshape(*basis.shape[:2], *([1] * dims), -1)
    return mass


def _product(left: Tensor, right: Tensor) -> Tensor:
    exact = left.dtype == torch.float64
    if not torch.compiler.is_compiling():  # a compiler makes one pass of the sums below
        # whoever allows TF32 means convolutions; a size of 10 bits would be no size
        exact = exact or torch.get_float32_matmul_precision() == "highest"
    if exact:
        return left @ right
    return torch.stack([(left * column.unsqueeze(-2)).sum(-1) for column in right.unbind(-1)], dim=-1)


def _entries(axes: int, order: int) -> list[int]:
    """For each entry of the symmetric tensor, where the product of powers that it needs lies."""
    places = []
    for index in product(range(axes + 1), repeat=order):
        place = 0
        for axis in range(axes):
            place = place * (order + 1) + index.count(axis)
        places.append(place)
    return places


def _move(tensor: Float[Tensor, "B R flat"], affine: Float[Tensor, "..."], order: int) -> Float[Tensor, "B R flat"]:
    """What the affine map ``[A | b]`` of coordinates makes of their moments."""
    side = affine.shape[-1]
    last = torch.zeros_like(affine[..., :1, :])
    last[..., -1] = 1
    matrix = torch.cat([affine, last], dim=-2)
    for _ in range(order):
        # each pass turns the first side and puts it last, so that all are turned and in place after the last one;
        # no matrix product: autocast would put it into half precision
        sides = tensor.reshape(*tensor.shape[:2], 1, side, tensor.shape[2] // side)
        tensor = (matrix.unsqueeze(-1) * sides).sum(-2).transpose(-1, -2).flatten(2)
    return tensor
