"""The gated CRF loss: neighbours that look alike should be of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Gate = Float[Tensor, "B *#space"] | Bool[Tensor, "B *#space"]


@dataclass(frozen=True)
class Kernel:
    r"""How strongly two voxels are tied: a Gaussian of their distance and of their difference in intensity.

    .. math:: k_{ij} = w \exp\left(-\frac{|p_i - p_j|^2}{2\sigma_p^2} - \frac{|I_i - I_j|^2}{2\sigma_I^2}\right)

    The defaults are the paper's, for pixels and colours in 0 … 1.

    Attributes:
        weight: w, >= 0.
        sigma_position: :math:`\sigma_p` > 0, in voxels, or in mm where a spacing is given.
        sigma_intensity: :math:`\sigma_I` > 0, in the image's unit and the same for all channels. None leaves
            the image out, and the kernel smooths alike within regions and across edges.

    Raises:
        ValueError: A sigma is not positive, or the weight is negative.
    """

    weight: float = 1.0
    sigma_position: float = 6.0
    sigma_intensity: float | None = 0.1

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"kernel: weight = {self.weight:g} would reward differences; give 0 or more")
        for name, sigma in (("sigma_position", self.sigma_position), ("sigma_intensity", self.sigma_intensity)):
            if sigma is not None and not sigma > 0:
                raise ValueError(f"kernel: {name} = {sigma:g} is no width; give a positive number")


@dataclass(frozen=True)
class GatedCrf:
    """The loss as one term of an objective.

    Attributes:
        weight: The factor on it.
        kernels: As in :func:`gated_crf`.
        radius: Likewise.
        classes: How many of the outputs are classes; further ones are other kinds of background. None: all are.
    """

    weight: float
    kernels: tuple[Kernel, ...] = (Kernel(),)
    radius: int = 5
    classes: int | None = None

    def __call__(
        self, probs: Float[Tensor, "B K *space"], image: Float[Tensor, "B C *space"], inside: Bool[Tensor, "B *#space"]
    ) -> Float[Tensor, ""]:
        """The energy of a batch; what is not inside of the case is tied to nothing."""
        if self.classes is not None and probs.shape[1] > self.classes:
            background = probs[:, :1] + probs[:, self.classes :].sum(1, keepdim=True)
            probs = torch.cat([background, probs[:, 1 : self.classes]], dim=1)
        return gated_crf(
            probs, image, kernels=self.kernels, radius=self.radius, source_gate=inside, destination_gate=inside
        )


def gated_crf(
    probs: Float[Tensor, "B K *space"],
    image: Float[Tensor, "B C *space"],
    *,
    kernels: Sequence[Kernel] = (Kernel(),),
    radius: int = 5,
    spacing_mm: Float[Tensor, "B axes"] | None = None,
    source_gate: Gate | None = None,
    destination_gate: Gate | None = None,
) -> Float[Tensor, ""]:
    r"""Potts energy of all pairs of voxels in a window, per voxel that is a source.

    .. math:: \frac{1}{\sum_j s_j} \sum_i \sum_{j \neq i,\ |i - j|_\infty \le r} d_i \, s_j \, k_{ij}
        \Big(1 - \sum_c S_i^c S_j^c\Big), \qquad k = \sum_m k^{(m)}

    with :math:`k^{(m)}` the given kernels, s the source gate and d the destination gate. For probabilities that
    add up to one the bracket is :math:`\sum_{c \neq c'} S_i^c S_j^{c'}`: the chance that i and j, drawn
    independently, differ. Obukhov, Georgoulis, Dai and Van Gool 2019; the defaults are theirs.

    A pair has two directions, and the gates decide how many count. The gradient goes to both of its voxels in
    either case. The sums run over the whole batch, so an image with little padding counts more than one with
    much; with gates that add up to less than 1, the denominator is 1.

    Differences from the published code: it divides by the destination gate's sum where there is one; without
    a source gate it also counts pairs with zeros beyond the border, as full disagreement (a constant, without
    gradient); it is 2D only; and it sets every gate below 1 to 0, where here it is a weight.

    All pairs of one offset are taken at once, and each pair once: memory is that of a few maps, whatever the
    window. The time grows with the window: 60 offsets for r = 5 in 2D, 665 in 3D.

    Args:
        probs: Probabilities after softmax, of all classes; at least two.
        image: What is alike and what is not, on the grid of ``probs``; finite. It gets no gradient.
        kernels: Their sum ties two voxels.
        radius: r >= 1, in voxels along each axis, whatever the spacing.
        spacing_mm: Size of the voxels of ``probs``; positions are then in mm. Further axes, as a slice's
            thickness in 2D, are left aside. None counts in voxels.
        source_gate: Weights in [0, 1], as 0 in padding; dimensions of size 1 broadcast. None is 1 everywhere.
        destination_gate: Likewise, as 0 where a label is known.

    Returns:
        Energy without a unit, as float32 (float64 if given that). 0 for a prediction that is hard and the same
        everywhere; maximal differences cost as much as the kernel's weights in a window add up to. First
        derivatives only: the gradient is a constant to autograd.

    Raises:
        ValueError: No kernel, a radius below 1, one channel of probabilities, or image, gates or spacing that do
            not fit ``probs``.
    """
    _check(probs, image, kernels, radius, spacing_mm)
    dtype = torch.float64 if probs.dtype == torch.float64 else torch.float32
    probs = probs.to(dtype)
    with torch.no_grad():
        image = image.to(dtype)
        size_of_voxels = image.new_ones(1, probs.ndim - 2) if spacing_mm is None else spacing_mm.to(image)
        source = None if source_gate is None else _full(source_gate, "source_gate", image)
        destination = source
        if destination_gate is not source_gate:
            destination = None if destination_gate is None else _full(destination_gate, "destination_gate", image)
        weight, message = _messages(probs, image, kernels, radius, size_of_voxels, source, destination)
        voxels = probs[:, 0].numel() if source is None else source.sum().clamp(min=1)
    # S·A S has the gradient 2 A S, for A is symmetric: the message A S serves value and gradient, and autograd
    # need not keep or walk the window
    agreement = ((2 * probs - probs.detach()) * message).sum(1)
    # voxel by voxel: the difference of two totals would lose a small energy to rounding
    return (weight - agreement).sum() / voxels


def _messages(
    probs: Float[Tensor, "B K *space"],
    image: Float[Tensor, "B C *space"],
    kernels: Sequence[Kernel],
    radius: int,
    spacing: Float[Tensor, "#B axes"],
    source: Float[Tensor, "B 1 *space"] | None,
    destination: Float[Tensor, "B 1 *space"] | None,
) -> tuple[Float[Tensor, "B *space"], Float[Tensor, "B K *space"]]:
    r"""Of every voxel, :math:`\sum_j a_{ij}` and :math:`\sum_j a_{ij} S_j` for a symmetric a.

    A pair's two directions share its weight, :math:`a_{ij} = a_{ji} = k_{ij} (d_i s_j + d_j s_i) / 2`: the energy
    stays what it was, and its gradient is a message, too. Gates need no work in the window: what is sent is
    multiplied by the one, and what is received by the other.
    """
    # the last channel gathers the weights themselves
    sent = torch.cat([probs, torch.ones_like(probs[:, :1])], dim=1)
    channels = sent.shape[1]
    if source is None and destination is None:
        received = _through_window(sent, image, kernels, radius, spacing)
    elif source is not None and source is destination:
        received = source * _through_window(source * sent, image, kernels, radius, spacing)
    else:
        s = torch.ones_like(probs[:, :1]) if source is None else source
        d = torch.ones_like(probs[:, :1]) if destination is None else destination
        both = _through_window(torch.cat([s * sent, d * sent], dim=1), image, kernels, radius, spacing)
        received = (d * both[:, :channels] + s * both[:, channels:]) / 2
    return received[:, -1], received[:, :-1]


def _through_window(
    sent: Float[Tensor, "B N *space"],
    image: Float[Tensor, "B C *space"],
    kernels: Sequence[Kernel],
    radius: int,
    spacing: Float[Tensor, "#B axes"],
) -> Float[Tensor, "B N *space"]:
    r"""Of every voxel, :math:`\sum_j k_{ij} x_j` of what its neighbours send."""
    space = sent.shape[2:]
    # the first half of the window is the second one mirrored, and the voxel itself lies between them
    half = (2 * radius + 1) ** len(space) // 2 + 1
    offsets = list(product(range(-radius, radius + 1), repeat=len(space)))[half:]
    axis = torch.arange(-radius, radius + 1, device=sent.device)
    # made on the device and in product's order: copying the offsets there would wait for the device
    steps = torch.cartesian_prod(*[axis] * len(space)).view(-1, len(space))[half:]
    squared_distance = (steps[:, None] * spacing[:, : len(space)]).square().sum(2)
    # how much of each kernel the distance leaves: one number per offset and image
    near = [kernel.weight * (squared_distance / (-2 * kernel.sigma_position**2)).exp() for kernel in kernels]
    received = torch.zeros_like(sent)
    for number, offset in enumerate(offsets):
        if any(abs(step) >= size for step, size in zip(offset, space, strict=True)):
            continue
        here = _moved(offset, space, -1)
        there = _moved(offset, space, 1)
        contrast = image[here].sub(image[there]).square_()
        if contrast.shape[1] > 1:
            contrast = contrast.sum(1, keepdim=True)
        pair = torch.zeros_like(contrast)
        for kernel, weights in zip(kernels, near, strict=True):
            strength = weights[number].view(-1, 1, *[1] * len(space))
            if kernel.sigma_intensity is None:
                pair += strength
            else:
                pair.addcmul_(contrast.mul(-0.5 / kernel.sigma_intensity**2).exp_(), strength)
        received[here].addcmul_(pair, sent[there])
        received[there].addcmul_(pair, sent[here])
    return received


def _moved(offset: tuple[int, ...], space: Sequence[int], sign: int) -> tuple[slice, ...]:
    """The voxels at the offset's far end (sign 1) or its near end (-1), where both lie in the image."""
    ends = ((sign * step, size) for step, size in zip(offset, space, strict=True))
    return (slice(None), slice(None), *(slice(max(step, 0), size + min(step, 0)) for step, size in ends))


def _full(gate: Gate, name: str, image: Float[Tensor, "B C *space"]) -> Float[Tensor, "B 1 *space"]:
    shape = (image.shape[0], *image.shape[2:])
    if gate.ndim != len(shape) or any(size not in (1, full) for size, full in zip(gate.shape, shape, strict=True)):
        raise ValueError(
            f"gated_crf: {name} has shape {list(gate.shape)} and probs ask for {list(shape)}; "
            "give one weight per voxel, with 1 where an axis should broadcast"
        )
    return gate.to(image).expand(shape).unsqueeze(1)


def _check(probs: Tensor, image: Tensor, kernels: Sequence[Kernel], radius: int, spacing_mm: Tensor | None) -> None:
    if not kernels:
        raise ValueError("gated_crf: no kernels are given, so nothing ties two voxels; give at least one Kernel")
    if radius < 1:
        raise ValueError(f"gated_crf: radius = {radius} leaves a voxel without neighbours; give 1 or more")
    if probs.shape[1] < 2:
        raise ValueError("gated_crf: probs have one channel; give all classes, the background as well")
    if (image.shape[0], *image.shape[2:]) != (probs.shape[0], *probs.shape[2:]):
        raise ValueError(
            f"gated_crf: the image has batch and space {[image.shape[0], *image.shape[2:]]} and probs have "
            f"{[probs.shape[0], *probs.shape[2:]]}; resample the image to the grid of probs"
        )
    axes = probs.ndim - 2
    if spacing_mm is not None and (spacing_mm.shape[0] != probs.shape[0] or spacing_mm.shape[1] < axes):
        raise ValueError(
            f"gated_crf: spacing_mm has shape {list(spacing_mm.shape)}; give {probs.shape[0]} images "
            f"x {axes} axes or more"
        )
