"""What nnU-Net sees of cases, looked at before the first step: a training is not to end in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from boundseg.asked.demands import Demand
from boundseg.errors import DatasetError, InputError, PriorsError, Problem
from boundseg.integrations.nnunet.case_grid import CaseGrid


def require_seen(grids: Mapping[str, CaseGrid], demands: Sequence[Demand], axes: int, where: str) -> None:
    """Refuses what would end a training in the middle, or measure it wrongly.

    Args:
        grids: The preprocessed grids of all cases, those that are held out among them.
        demands: What is asked, and known of each case.
        axes: Of the network's patches.
        where: The folder of ``boundseg.yaml``, for messages.

    Raises:
        DatasetError: Patches of three axes, and slices of cases lie along different ones.
        InputError: Bounds of slices that are not there; all of them are listed.
    """
    if axes == 3:
        one_slice_axis(grids)
    problems: dict[Problem, None] = {}  # several demands may read one row
    for demand in demands:
        for case, grid in grids.items():
            try:
                demand.bounds(case, grid.slices)
            except PriorsError as error:
                problems |= {replace(one, where=one.where or where): None for one in error.problems}
    if problems:
        raise InputError.of(problems)


def one_slice_axis(grids: Mapping[str, CaseGrid]) -> int:
    """The preprocessed axis along which the slices of all of these cases are stacked.

    Raises:
        DatasetError: They have different ones: a batch has one, and would measure the others' slices across.
    """
    first: dict[int, str] = {}
    for case, grid in grids.items():
        first.setdefault(grid.slice_axis, case)
    if len(first) > 1:
        (one, case), (other, another), *_ = sorted(first.items())
        raise DatasetError(
            f"slices of {case} lie along axis {one} of what nnU-Net sees, and those of {another} along axis {other}: "
            "the files have different orientations.",
            remedy="Save all images and labels in one orientation, count the slices of priors.csv in it, and "
            "preprocess again; or train the configuration 2d.",
        )
    return next(iter(first))
