"""One thing that is asked of a prediction: a descriptor of some regions, and what its violation costs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsFloat, SupportsIndex, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boundseg.constraints.bounds import Bounds
from boundseg.constraints.descriptors import Descriptor
from boundseg.constraints.descriptors.descriptor import Counting, Partial
from boundseg.constraints.descriptors.measure import group_sums
from boundseg.constraints.frame import Frame
from boundseg.constraints.groups import Groups
from boundseg.constraints.penalties import PENALTIES, Penalty, ScaleKind, name_of, needs, priced, quadratic
from boundseg.constraints.penalties.arguments import require_positive
from boundseg.constraints.precision import at_least_float32, best_precision
from boundseg.constraints.scale import Scale, Voxels, explained, kind, resolve
from boundseg.constraints.term import Term
from boundseg.constraints.totals import Totals
from boundseg.errors import BoundsError

Scope = Literal["slice", "volume"]
Memo = dict[Hashable, tuple[object, Tensor]]  # what was measured, kept alive so that its identity stays its own


@dataclass(frozen=True)
class Constraint:
    """A descriptor, the regions it measures, what belongs together, and what a violation costs.

    Args:
        name: How reports call it.
        descriptor: What is measured, such as :class:`~boundseg.constraints.Size`.
        regions: The measured regions, each a tuple of class indices: ``((3,),)`` is class 3, ``((2, 3),)``
            the union of classes 2 and 3, ``((1,), (2,))`` two regions, or one pair for a ratio or a distance.
        scope: Whether the bounds belong to single images (``slice``) or to all slices of a volume. Of 3D predictions
            the single images are the slices that the frame names, or else the predictions themselves.
        penalty: What a violation costs, one of :data:`~boundseg.constraints.PENALTIES` or a function like them.
        scale: By what violations are measured, the penalty's third argument. ``image``: they are counted in
            predicted voxels, whatever the unit of the bounds, and the cost is divided by the voxels of one image, as
            in the published code. :class:`Relative`: by the violated bound. :class:`Voxels`: by so many predicted
            voxels. Or a number in the unit of the bounds (for ``quadratic``, in the unit squared). Left out, it is
            what the penalty declares first, or 1 where voxels do not add up to the value, as with a centroid.
        weight: The factor λ; the paper's is 1e-2.
        sharpness: Exponent τ >= 1 of the probabilities that are measured, S^τ / Σ S^τ: the softmax
            of τ times the logits. A soft size leaks, since many faint pixels weigh as much as a few clear ones;
            with τ = 2 the measured region is closer to the hard one.

    Raises:
        ValueError: A penalty that cannot price the descriptor's values, a scale that does not go with either, regions
            that are no pairs where pairs are measured, or a sharpness below 1.
    """

    name: str
    descriptor: Descriptor
    regions: tuple[tuple[int, ...], ...]
    scope: Scope = "slice"
    penalty: Penalty = quadratic
    scale: Scale | None = None
    weight: float = 1e-2
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", _as_tuples(self.name, self.regions))
        if self.scope not in get_args(Scope):
            raise ValueError(f"{self.name}: there is no scope {self.scope!r}: choose {' or '.join(get_args(Scope))}")
        if not callable(self.penalty):
            known = ", ".join(PENALTIES)
            raise ValueError(
                f"{self.name}: {self.penalty!r} is no penalty: give PENALTIES[…] of {known}, or a function"
            )
        if isinstance(self.descriptor, type):
            made = f"{self.descriptor.__name__}(…)"
            raise ValueError(f"{self.name}: descriptor = {self.descriptor.__name__} is a class: give {made}")
        if not isinstance(self.weight, SupportsFloat) or not 0 <= self.weight < math.inf:
            raise ValueError(f"{self.name}: weight = {self.weight}: give a number of 0 or more")
        if isinstance(self.scale, (int, float)):
            require_positive(f"{self.name}: scale", self.scale)
        self._require_a_pairing()
        arity = self.descriptor.traits.arity
        if len(self.regions) % arity:
            raise ValueError(f"{self.name}: it measures regions by {arity}, and was given {len(self.regions)}")
        if not self.sharpness >= 1:
            raise ValueError(f"sharpness = {self.sharpness:g}: probabilities are sharpened by 1 (not at all) or more")

    def measure(
        self, probs: Float[Tensor, "B K *space"], frame: Frame, groups: Groups, memo: Memo | None = None
    ) -> Float[Tensor, "G R *components"]:
        """The descriptor's values, one per group and region.

        Args:
            memo: What was measured of the same probabilities, frame and groups before; constraints that share it
                share their passes over the probabilities.
        """
        return self.descriptor.value(self._group_sums(probs, frame, groups, {} if memo is None else memo))

    def sums(self, probs: Float[Tensor, "B K *space"], frame: Frame) -> Float[Tensor, "N R S"]:
        """The descriptor's sums, for each image (or slice of images that the frame names) and region; to be added
        within groups, chunks or ranks.

        Squares are summed about the frame's ``centre``; without one, about the case's first voxel, for which a small
        region far from there wants float64 probabilities.

        Raises:
            ValueError: The frame lacks what the descriptor reads: a spacing, an axis, the image, the bands.
        """
        own = self._own(frame, probs)
        return self.descriptor.sums(self._images(self._regions(probs, {}), frame), own)

    def __call__(
        self,
        probs: Float[Tensor, "B K *space"],
        bounds: Bounds,
        frame: Frame | None = None,
        groups: Groups | None = None,
        t: float | Tensor = 5.0,
        memo: Memo | None = None,
    ) -> Term:
        """Measures a batch and prices its violations.

        Args:
            probs: Probabilities of all classes, 2D or 3D.
            bounds: ``[G, R]``, a row per group and a column per region (or pair, with further dimensions where the
                descriptor has components), in the descriptor's unit.
            frame: Where the voxels lie in their cases; left out, each counts once and all is seen.
            groups: What belongs together; left out, every image is by itself.
            t: The steepness of a log-barrier; other penalties have none.
            memo: As in :meth:`measure`.

        Raises:
            ValueError: The frame lacks what the descriptor reads or is of other images, the network has no such class,
                or bounds speak of volumes and no groups say which images form one.
            BoundsError: The bounds' shape is not that of the values.
        """
        if self.scope == "volume" and groups is None:
            raise ValueError(f"{self.name} speaks of volumes: give groups=Groups(…), which says what images form one")
        frame = frame or Frame.plain(len(probs), probs.ndim - 2, probs.device)
        memo = {} if memo is None else memo
        if self._in_slices(frame):
            assert frame.slices is not None
            groups = Groups.each(len(frame.slices), probs.device)
            sums = self._group_sums(probs, frame, groups, memo)
            return self.term(sums, bounds, frame.of_slices(), groups, probs.shape[2:-1].numel(), t)
        groups = groups or Groups.each(len(probs), probs.device)
        sums = self._group_sums(probs, frame, groups, memo)
        return self.term(sums, bounds, frame, groups, probs.shape[2:].numel(), t)

    def term(
        self,
        sums: Float[Tensor, "G R S"],
        bounds: Bounds,
        frame: Frame,
        groups: Groups,
        pixels: int,
        t: float | Tensor = 5.0,
    ) -> Term:
        """Prices what was summed before, over tiles of the same images: see :meth:`sums` and :meth:`Groups.add`.

        Args:
            sums: Of each group.
            bounds: As in :meth:`__call__`, as are ``frame``, ``groups`` and ``t``; of slices of 3D predictions the
                frame is :meth:`Frame.of_slices`, and every slice is a group.
            pixels: Voxels of a predicted image.
        """
        return self.price(self._seen(sums, frame, groups, pixels), bounds, groups.parts, t)

    def totals(self, probs: Float[Tensor, "B K *space"], frame: Frame, memo: Memo | None = None) -> Totals:
        """What each image adds to the group it is part of, wherever the rest of that is.

        Squares are summed about the origin of the case, which all parts share; these and means in float64 where the
        device has it, for float32 would lose the digits of a region that lies far from there.

        Args:
            probs: As in :meth:`__call__`, as are ``frame`` and ``memo``.

        Raises:
            ValueError: The frame lacks what the descriptor reads.
        """
        memo = {} if memo is None else memo
        key = ("totals", *self._key)
        if key not in memo:
            own = replace(self._own(frame, probs), centre=None)
            regions = self._regions(probs, memo)
            exact = best_precision(probs.device)
            if self.descriptor.traits.about is not None or self.descriptor.traits.partial:
                regions = regions.to(exact)  # quotients: a mean's gradient is a small difference of large numbers
            memo[key] = self.descriptor, self.descriptor.sums(regions, own).to(exact)
        each = Groups.each(len(probs), probs.device)
        return self._seen(memo[key][1], frame, each, frame.owned(probs[:, 0]).shape[1:].numel())

    def price(self, totals: Totals, bounds: Bounds, parts: Int[Tensor, " G"], t: float | Tensor = 5.0) -> Term:
        """Prices totals, which may come from several chunks, batches or processes.

        Args:
            totals: A row per group: see :meth:`totals` and :meth:`Totals.grouped`.
            bounds: As in :meth:`__call__`, as is ``t``.
            parts: How many images make up each group; of one that has fewer, a part is seen.
        """
        value = self.descriptor.value(totals.sums)
        traits = self.descriptor.traits
        self._require_bounds_for(value, bounds)
        bounds = bounds.seen_in_part(_like(totals.whole(parts), value), grows=traits.grows)
        defined = torch.ones_like(value, dtype=torch.bool)
        if traits.partial:
            defined = defined & cast(Partial, self.descriptor).defined(totals.sums)
            bounds = bounds.only(defined)
        tolerance = self._tolerance(totals, value)
        declared = needs(self.penalty)
        # a group without voxels has no scale; its bounds are unknown, and what is unknown costs 0 and not 0 / 0
        per_voxel = tolerance.where(tolerance > 0, 1)
        # of an image as a whole: pieces of one, which are a divided volume of a 3D network, are put together
        tiny = torch.finfo(totals.uncut.dtype).tiny
        pixels = _like((totals.voxels / totals.uncut.clamp(min=tiny)).clamp(min=1).unsqueeze(1), value)
        scale = resolve(self._scale, declared.power, value, bounds, pixels, per_voxel)
        options: dict[str, Any] = {"t": t} if declared.barrier else {}
        unit = scale if declared.power == 1 else scale**0.5
        return Term(value, bounds, self.penalty(value, bounds, scale, **options), tolerance, defined, unit)

    def _group_sums(self, probs: Tensor, frame: Frame, groups: Groups, memo: Memo) -> Tensor:
        key = self._key
        if key not in memo:
            own = self._own(frame, probs)
            regions = self._images(self._regions(probs, memo), frame)
            memo[key] = self.descriptor, group_sums(self.descriptor, regions, own, groups)
        return memo[key][1]

    @property
    def _key(self) -> tuple[Hashable, ...]:
        """What has the same sums of a batch."""
        shared = self.descriptor.traits.shared
        # by identity, for somebody's own descriptor may be equal to another kind's, or have no hash
        what = ("own", id(self.descriptor)) if shared is None else ("shared", shared)
        return (what, self.regions, self.sharpness, self.scope)

    def _regions(self, probs: Tensor, memo: Memo) -> Tensor:
        key = (self.regions, self.sharpness)
        if key not in memo:
            greatest = max(map(max, self.regions))
            if greatest >= probs.shape[1]:
                raise ValueError(
                    f"{self.name}: class {greatest} is none of the network's {probs.shape[1]}, which count from 0"
                )
            if self.sharpness != 1:
                # float32: squares of probabilities vanish in half precision
                powers = at_least_float32(probs).pow(self.sharpness)
                probs = powers / powers.sum(1, keepdim=True).clamp(min=torch.finfo(powers.dtype).tiny)
            memo[key] = None, _unions(probs, self.regions)
        return memo[key][1]

    def _in_slices(self, frame: Frame) -> bool:
        return self.scope == "slice" and frame.slices is not None

    def _images(self, regions: Tensor, frame: Frame) -> Tensor:
        return frame.slices.of(regions) if self._in_slices(frame) and frame.slices is not None else regions

    def _own(self, frame: Frame, probs: Tensor) -> Frame:
        """The frame of what is measured, checked to be of these predictions."""
        frame.require_images(probs.shape)
        if self._in_slices(frame):
            frame = frame.of_slices()
        return frame.in_plane() if self.scope == "slice" else frame

    def _seen(self, sums: Tensor, frame: Frame, groups: Groups, pixels: int) -> Totals:
        """Beside sums of groups, what was seen to get them."""
        one = torch.ones(len(groups.index), dtype=sums.dtype, device=sums.device)
        piece = one if frame.piece is None else frame.piece.to(one.dtype)
        holding = (frame.weight.flatten(1) > 0).any(1).to(one.dtype)
        return Totals(
            sums,
            groups.add(one),
            groups.add(piece),
            groups.add(holding),
            groups.add(one * pixels),
            groups.add(self._cut(frame, one)),
            groups.add(self._amount(frame, pixels).to(one.dtype) if self.descriptor.traits.counts else 0 * one),
        )

    def _cut(self, frame: Frame, one: Tensor) -> Float[Tensor, "B values"]:
        arity = self.descriptor.traits.arity
        if frame.whole is None:
            return one.new_zeros(len(one), len(self.regions) // arity)
        seen = torch.stack([frame.whole[:, list(classes)].all(1) for classes in self.regions], dim=1)
        return (~seen.reshape(len(one), -1, arity).all(2)).to(one.dtype)

    def _amount(self, frame: Frame, pixels: int) -> Float[Tensor, " B"]:
        per_voxel = cast(Counting, self.descriptor).per_voxel(frame, pixels)
        # of a share, a voxel is the less the more there is: slices of a volume add up their voxels
        amount = per_voxel if self.descriptor.traits.grows else 1 / per_voxel
        return amount.where(per_voxel > 0, 0)

    def _tolerance(self, totals: Totals, value: Tensor) -> Tensor:
        traits = self.descriptor.traits
        if not traits.counts:
            return value.new_zeros(())
        mean = totals.amount / totals.holding.clamp(min=1) if traits.grows else 1 / totals.amount
        return _like(torch.nan_to_num(mean, posinf=0.0).unsqueeze(1), value)

    def _require_bounds_for(self, value: Tensor, bounds: Bounds) -> None:
        given, wanted = bounds.lower.shape, value.shape
        fits = len(given) == len(wanted) and all(g == 1 or g == w for g, w in zip(given, wanted, strict=True))
        if len(given) and not fits:
            raise BoundsError(
                f"{self.name}: bounds of shape {list(given)} meet values of shape {list(wanted)}.",
                remedy="Give a row per group (image or volume) and a column per region"
                + (", then the components." if len(wanted) > 2 else "."),
            )

    @property
    def _kinds(self) -> tuple[ScaleKind, ...]:
        counts = self.descriptor.traits.counts
        return tuple(k for k in needs(self.penalty).scales if counts or k in ("relative", "number"))

    @property
    def _scale(self) -> Scale:
        if self.scale is not None:
            return self.scale
        defaults: dict[ScaleKind, Scale] = {"image": "image", "voxels": Voxels()}
        return defaults.get(self._kinds[0], 1.0)

    def _require_a_pairing(self) -> None:
        penalty, of = name_of(self.penalty), type(self.descriptor).__name__
        able = priced(self.descriptor.traits.domain)
        if penalty in PENALTIES and penalty not in able:
            needed = {"amount": "values that are never negative", "share": "shares of a whole"}
            raise ValueError(
                f"{self.name}: {penalty} prices {needed[needs(self.penalty).domain]}, and those of {of} are not: "
                f"use {', '.join(able)}"
            )
        if self.scale is not None and kind(self.scale) not in self._kinds:
            raise ValueError(
                f"{self.name}: the scale {self.scale!r} does not go with {penalty} of {of}: "
                f"give {explained(self._kinds)}"
            )
        declared = needs(self.penalty).scales
        if self.scale is None and declared[0] == "voxels" and "voxels" not in self._kinds:
            raise ValueError(
                f"{self.name}: {penalty} of {of} needs a scale in the unit of the bounds: give {explained(self._kinds)}"
            )


def _as_tuples(name: str, regions: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    if not regions or any(isinstance(region, int) or not len(region) for region in regions):
        raise ValueError(
            f"{name}: regions = {regions!r}: give a tuple of classes for each, as ((1,),), or ((1, 2),) for a union"
        )
    for region in regions:
        if not all(isinstance(c, SupportsIndex) and c >= 0 for c in region) or len(set(region)) < len(region):
            raise ValueError(f"{name}: the region {region!r} is none: give classes, 0 or more, each of them once")
    return tuple(tuple(map(int, region)) for region in regions)


def _unions(probs: Tensor, regions: tuple[tuple[int, ...], ...]) -> Tensor:
    first = regions[0][0]
    if regions == tuple((first + i,) for i in range(len(regions))):
        return probs[:, first : first + len(regions)]  # neighbours, as usual: nothing is copied
    return torch.stack([probs[:, r[0]] if len(r) == 1 else probs[:, list(r)].sum(1) for r in regions], dim=1)


def _like(rows: Tensor, value: Tensor) -> Tensor:
    """With further dimensions for the components of a value."""
    return rows.reshape(*rows.shape, *([1] * (value.ndim - rows.ndim)))
