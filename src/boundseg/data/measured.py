"""What full masks measure: any quantity, of each slice or of the whole volume, in the file's own geometry."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int

from boundseg.constraints import Frame, Groups, descriptor
from boundseg.constraints.descriptors.descriptor import Partial
from boundseg.constraints.descriptors.measure import group_sums
from boundseg.constraints.quantities import split
from boundseg.data.dataset import Dataset
from boundseg.errors import DatasetError, PriorsError


def measured(
    dataset: Dataset, case: str, quantity: str, region: str, unit: str, *, of_volume: bool
) -> Float[np.ndarray, " rows"]:
    """A quantity of a case's full mask: a row per slice, or one of the volume; NaN where it is undefined.

    Args:
        dataset: The dataset.
        case: With a full mask.
        quantity: One of :func:`boundseg.constraints.quantities.names`.
        region: A class, a union, or a pair.
        unit: Of the value.
        of_volume: Whether the volume is measured, or each slice as an image of its own.

    Raises:
        PriorsError: The quantity is unknown, has no such unit, or cannot be asked of that.
        DatasetError: The region is unknown, or a volume cannot be read.
    """
    found = split(quantity)
    try:
        what = descriptor(quantity, unit, dataset.axes if of_volume else dataset.axes[:2])
    except ValueError as error:
        raise PriorsError(f"{error}.", remedy="Give another --quantity or --unit.") from None
    assert found is not None, "descriptor() knows the same names"
    if of_volume and not found[0].of_volumes:
        raise PriorsError(f"{quantity} is measured in slices.", remedy="Derive individual bounds.")
    if region.count(":") != found[0].pair:
        two = "a pair of classes, as LV:Myo" if found[0].pair else "one class, or a union"
        raise PriorsError(f"{quantity} is of {two}, not of {region}.", remedy="Give other --class names.")
    if found[0].suffix == "channel" and int(found[1] or 0) >= len(dataset.channels):
        raise PriorsError(
            f"there is no channel {found[1]}: images have {len(dataset.channels)}.", remedy="Count channels from 0."
        )
    array, image = dataset.read_image(case)
    target = dataset.to_slices(dataset.read_labels(case, "full", image))
    masks = np.stack([np.isin(target, values) for values in _regions(dataset, region)], axis=1)
    probs = torch.from_numpy(masks).double()
    frame = frame_of_file(dataset.slice_spacing_mm(image), len(target))
    if found[0].reads_image:
        intensities = dataset.to_slices(array).astype(np.float64).swapaxes(0, 1)
        frame = Frame(frame.weight, frame.spacing_mm, affine=frame.affine, image=torch.from_numpy(intensities.copy()))
    groups = Groups.by_name([case] * len(target), {case: len(target)}) if of_volume else Groups.each(len(target))
    sums = group_sums(what, probs, frame if of_volume else frame.in_plane(), groups)
    value = what.value(sums)[:, 0]
    if what.traits.partial:
        value = value.where(cast(Partial, what).defined(sums)[:, 0], torch.nan)
    return np.asarray(value)


def boxes(dataset: Dataset, case: str, region: str) -> dict[int, Int[np.ndarray, "2 2"]]:
    """For each slice that shows a region, the first and the last line of its bounding box along both axes."""
    _, image = dataset.read_image(case)
    target = dataset.to_slices(dataset.read_labels(case, "full", image))
    if ":" in region:
        raise PriorsError(f"a box is of one class, or a union, not of {region}.", remedy="Give other --class names.")
    (values,) = _regions(dataset, region)
    found = {}
    for index, mask in enumerate(np.isin(target, values)):
        if mask.any():
            lines = [np.flatnonzero(mask.any(1 - axis)) for axis in (0, 1)]
            found[index] = np.array([[line[0], line[-1]] for line in lines])
    return found


def frame_of_file(spacing_mm: tuple[float, float, float], slices: int) -> Frame:
    """The frame of a file's own slices."""
    affine = torch.eye(3, 4, dtype=torch.float64).repeat(slices, 1, 1)
    affine[:, 2, 3] = torch.arange(slices)
    return Frame(
        torch.ones(slices, 1, 1, dtype=torch.float64),
        torch.tensor(spacing_mm, dtype=torch.float64).expand(slices, 3),
        affine=affine,
    )


def _regions(dataset: Dataset, region: str) -> tuple[tuple[int, ...], ...]:
    try:
        return dataset.regions(region)
    except KeyError as error:
        raise DatasetError(str(error.args[0]), str(dataset.folder / "dataset.json")) from None
