"""Which slices a report shows, and their panels: the image, weak labels, the reference, every run's prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boundseg.data.dataset import Dataset
from boundseg.data.picture_io import COLOURS
from boundseg.data.volume_io import Volume
from boundseg.errors import InputError
from boundseg.report.collect import Judged
from boundseg.report.panels import panel, window

TAUGHT_SHOWN = 3


@dataclass(frozen=True)
class Panel:
    """A picture and what stands below it."""

    caption: str
    picture: str


@dataclass(frozen=True)
class Strip:
    """The panels of one slice."""

    title: str
    case: str
    index: int
    panels: list[Panel]

    @property
    def size_bytes(self) -> int:
        """Of its pictures in the page."""
        return sum(len(panel.picture) for panel in self.panels)


def chosen(judged: Sequence[Judged]) -> list[tuple[str, str, int]]:
    """The best, the median and the worst slice by the runs' mean DSC, and the one they disagree on most.

    The DSC of a slice is its classes' mean; slices in which it is undefined for a run are left out.

    Returns:
        Triples of a word, a case and a slice number; no slice comes twice.
    """
    columns = {one.name: one.evaluation.slices.groupby(["case", "slice"])["dice"].mean() for one in judged}
    table = pd.DataFrame(columns).dropna()
    if table.empty:
        return []
    mean = table.mean(axis=1).sort_values(kind="stable")
    picks = {"best": mean.index[-1], "median": mean.index[len(mean) // 2], "worst": mean.index[0]}
    if len(judged) > 1:
        picks["most different"] = (table.max(axis=1) - table.min(axis=1)).idxmax()
    found: dict[tuple[str, int], str] = {}
    for word, (case, index) in picks.items():
        key = (str(case), int(index))
        found[key] = f"{found[key]}, {word}" if key in found else word
    return [(word, case, index) for (case, index), word in found.items()]


def judged_slices(judged: Sequence[Judged], dataset: Dataset) -> list[Strip]:
    """Panels of the chosen slices."""
    strips = []
    for word, case, index in chosen(judged):
        image, volume = dataset.read_image(case)
        shown = shown_slices(dataset, image)[index]
        maps: dict[str, np.ndarray] = dict(weak_labels(judged, dataset, case, volume, index))
        maps["reference"] = _slice(dataset, dataset.read_labels(case, "full", volume), index)
        for one in judged:
            path = one.run.folder / "predictions" / f"{case}{dataset.file_ending}"
            try:
                prediction = _slice(dataset, dataset.read_label_file(path, volume), index)
            except InputError:
                continue  # predictions may have been cleared away; the tables do not need them
            maps[f"{one.name}, DSC {_dice(one, case, index)}"] = prediction
        strips.append(Strip(f"{word}: {case}, slice {index}", case, index, _panels(shown, maps, dataset, volume)))
    return strips


def shown_slices(dataset: Dataset, image: Float[np.ndarray, "C *space"]) -> Float[np.ndarray, "S H W *colours"]:
    """The slices of a case as they are looked at: in colours where its channels are some, else its first channel."""
    channels: np.ndarray = dataset.to_slices(image)
    return np.moveaxis(channels, 0, -1) if tuple(map(str.casefold, dataset.channels)) == COLOURS else channels[0]


def taught_slices(judged: Sequence[Judged], dataset: Dataset) -> list[Strip]:
    """A few training slices with the weak labels that the runs learned from, and the full mask where there is one."""
    strips = []
    for case in taught_cases(judged, dataset):
        image, volume = dataset.read_image(case)
        slices = shown_slices(dataset, image)
        index = len(slices) // 2
        maps = dict(weak_labels(judged, dataset, case, volume, index))
        if dataset.label_path(case).is_file():
            maps["full mask"] = _slice(dataset, dataset.read_labels(case, "full", volume), index)
        strips.append(Strip(f"{case}, slice {index}", case, index, _panels(slices[index], maps, dataset, volume)))
    return strips


def taught_cases(judged: Sequence[Judged], dataset: Dataset) -> list[str]:
    """A few of the training cases that have weak labels."""
    patients = judged[0].run.environment.get("patients", {}).get("train", [])
    cases = [case for patient in patients for case in dataset.splits.patients.get(patient, [])]
    sets = weak_sets(judged, dataset)
    with_labels = [case for case in cases if any(dataset.label_path(case, name).is_file() for name in sets)]
    return with_labels[:: max(1, len(with_labels) // TAUGHT_SHOWN)][:TAUGHT_SHOWN]


def weak_labels(
    judged: Sequence[Judged], dataset: Dataset, case: str, volume: Volume, index: int
) -> list[tuple[str, np.ndarray]]:
    """The case's weak labels in a slice, from every set that a run learned from and that has the case."""
    return [
        (f"weak labels: {name}", _slice(dataset, dataset.read_labels(case, name, volume), index))
        for name in weak_sets(judged, dataset)
        if dataset.label_path(case, name).is_file()
    ]


def weak_sets(judged: Sequence[Judged], dataset: Dataset) -> list[str]:
    """The weak label sets that a run learned from and that lie in the folder."""
    asked = [entry.labels for one in judged for entry in one.run.config.supervision]
    return [name for name in dict.fromkeys(asked) if name in dataset.label_sets]


def _panels(shown: np.ndarray, maps: Mapping[str, np.ndarray], dataset: Dataset, volume: Volume) -> list[Panel]:
    values = list(dataset.classes.values())
    marked = (
        np.any([np.isin(labels, values) for labels in maps.values()], axis=0)
        if maps
        else np.zeros(shown.shape[:2], bool)
    )
    part, spacing_mm = window(marked), dataset.slice_spacing_mm(volume)[:2]
    drawn: dict[str, np.ndarray | None] = {"image": None, **{name: labels[part] for name, labels in maps.items()}}
    return [Panel(name, panel(shown[part], labels, dataset.classes, spacing_mm)) for name, labels in drawn.items()]


def _slice(dataset: Dataset, labels: np.ndarray, index: int) -> np.ndarray:
    found: np.ndarray = dataset.to_slices(labels)[index]
    return found


def _dice(one: Judged, case: str, index: int) -> str:
    rows = one.evaluation.slices
    return f"{rows[(rows['case'] == case) & (rows['slice'] == index)]['dice'].mean():.2f}"
