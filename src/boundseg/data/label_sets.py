"""Weak label sets of a whole dataset: masks in, ``labelsTr_NAME`` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from boundseg.data import volume_io, weaken
from boundseg.data.dataset import Dataset
from boundseg.data.weaken import Statistics
from boundseg.errors import DatasetError
from boundseg.nearest import did_you_mean

Method = Literal["erosion", "disc"]


@dataclass
class SetStatistics:
    """What a label set holds.

    Attributes:
        names: Class names and values.
        total: Counts over all cases.
        empty_cases: Cases in which no pixel of any class is labelled.
    """

    names: dict[str, int]
    total: Statistics | None = None
    empty_cases: list[str] = field(default_factory=list)

    def add(self, case: str, found: Statistics) -> None:
        """Adds a case."""
        self.total = found if self.total is None else self.total + found
        if not sum(found.labelled.values()):
            self.empty_cases.append(case)


def write_label_set(
    dataset: Dataset,
    cases: Sequence[str],
    name: str,
    method: Method,
    *,
    classes: Sequence[str] = (),
    grid_size: tuple[int, int] | None = None,
    seed: int = 0,
    report: Callable[[str], None] = lambda case: None,
    **options: Any,
) -> SetStatistics:
    """Weakens the full masks of cases into the label set ``labelsTr_NAME``.

    Args:
        dataset: The dataset; its masks stay as they are.
        cases: Training cases with full masks.
        name: Of the set; a set of that name is replaced case by case.
        method: ``erosion`` or ``disc``, see :mod:`boundseg.data.weaken`.
        classes: The classes to label; empty means all. The background gets no labels.
        grid_size: Count kernels and radii in pixels of slices resized to this, as the published code does.
        seed: Of the random pixels; each case draws its own numbers, whatever the order.
        report: Told of each case.
        **options: Of the method, such as ``reading`` or ``radius_px``.

    Raises:
        InputError: A class is unknown, or a case has no readable full mask.
    """
    for unknown in [c for c in classes if c not in dataset.classes]:
        raise DatasetError(
            f"{unknown!r} is no class to label{did_you_mean(unknown, dataset.classes)}",
            str(dataset.folder / "dataset.json"),
            f"The classes are: {', '.join(dataset.classes)}.",
        )
    names = {c: dataset.classes[c] for c in (classes or dataset.classes)}
    values = list(names.values())
    on_file_grid = weaken.METHODS[method]

    def function(target: np.ndarray, **given: Any) -> np.ndarray:
        if grid_size is None:
            return on_file_grid(target, **given)
        return weaken.on_grid(on_file_grid, target, grid_size, **given)

    if name == "full" or not name:
        raise DatasetError("a weak label set cannot be called 'full'.", remedy="Choose another --name.")
    statistics = SetStatistics(names)
    for case in cases:
        _, image = dataset.read_image(case)
        target = dataset.to_slices(dataset.read_labels(case, "full", image))
        rng = weaken.case_generator(seed, case)
        labels = function(target, classes=values, ignore=dataset.ignore, rng=rng, **options)
        on_file = np.ascontiguousarray(dataset.from_slices(labels)).astype(np.uint8)
        volume_io.write(dataset.label_path(case, name), on_file, image)
        statistics.add(case, weaken.statistics(labels, target, classes=values))
        report(case)
    return statistics
