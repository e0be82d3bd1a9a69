"""The dataset folder: nnU-Net's raw layout, weak label sets beside it, patients and their splits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from boundseg.data import atomic, volume_io
from boundseg.data.picture_io import PICTURE_ENDINGS
from boundseg.data.volume_io import Volume
from boundseg.errors import DatasetError, VolumeError
from boundseg.nearest import did_you_mean

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """Patients, their cases, and the lists of patients that a training distinguishes.

    Attributes:
        patients: Cases of each patient; all of them stay on one side.
        lists: ``train``, ``validation``, ``test`` and any named lists, each of patients or single cases.
    """

    patients: dict[str, list[str]]
    lists: dict[str, list[str]] = field(default_factory=dict)

    def cases(self, name: str) -> list[str]:
        """The cases of a list, a patient or a case, by its name; raises KeyError where it is none."""
        if name in self.lists:
            found = [case for member in self.lists[name] for case in self.cases_of_member(member)]
            return list(dict.fromkeys(found))
        return self.cases_of_member(name)

    def cases_of_member(self, member: str) -> list[str]:
        if member in self.patients:
            return self.patients[member]
        if any(member in cases for cases in self.patients.values()):
            return [member]
        raise KeyError(member)

    def patient_of(self, case: str) -> str:
        """The patient of a case."""
        return next(patient for patient, cases in self.patients.items() if case in cases)


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened; nothing of its volumes is read before it is asked for.

    Attributes:
        folder: Where it lies.
        channels: Names of the image channels, in the order of the files ``CASE_0000``, ``CASE_0001``, …
        labels: Class names and their values, the background first, without the ignore label.
        ignore: The value that means "nothing is known here"; the highest of all.
        file_ending: Ending of all volumes.
        slice_axis: The array axis along which slices are stacked.
        splits: Patients and lists.
    """

    folder: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    ignore: int
    file_ending: str
    slice_axis: int
    splits: Splits

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Reads ``dataset.json`` and ``splits.json``.

        Raises:
            DatasetError: One of them is missing (splits may be) or says something impossible.
        """
        folder = Path(folder)
        description = _read_json(folder / "dataset.json")
        where = str(folder / "dataset.json")
        for key in ("channel_names", "labels", "file_ending"):
            if key not in description:
                raise DatasetError(f"the key {key!r} is missing.", where, "Add it as nnU-Net v2 describes it.")
        for key in ("channel_names", "labels"):
            if not isinstance(description[key], dict):
                raise DatasetError(f"{key!r} is no table of names and numbers.", where, "See nnU-Net v2's format.")
        if not description["channel_names"] or not all(n.isdecimal() for n in description["channel_names"]):
            raise DatasetError("channel_names does not number the channels.", where, 'Write {"0": "MR"}.')
        labels = dict(description["labels"])
        for name, value in labels.items():
            if not isinstance(value, int):
                raise DatasetError(
                    f"the label {name!r} has the value {value!r}, not one integer.",
                    where,
                    "Region-based labels are not supported: list each class by itself.",
                )
        ignore = labels.pop("ignore", max(labels.values(), default=0) + 1)
        if not labels:
            raise DatasetError("labels names no class.", where, 'Write {"background": 0, "LV": 1}.')
        if sorted(labels.values()) != list(range(len(labels))) or ignore < len(labels):
            raise DatasetError(
                f"label values {sorted(labels.values())} with ignore = {ignore} do not count up from 0.",
                where,
                "Give background 0, the classes 1, 2, …, and ignore the highest value.",
            )
        labels = dict(sorted(labels.items(), key=lambda item: item[1]))
        channels = tuple(name for _, name in sorted(description["channel_names"].items(), key=lambda i: int(i[0])))
        ending = description["file_ending"]
        axis = description.get("slice_axis", 2)
        if axis not in (0, 1, 2, -1, -2, -3):
            raise DatasetError(f"slice_axis = {axis!r} is no axis of a volume.", where, "Use 0, 1 or 2.")
        if ending not in volume_io.ENDINGS:
            raise DatasetError(
                f"file_ending = {ending!r} is not a format that boundseg reads.",
                where,
                f"Use one of {', '.join(volume_io.ENDINGS)}.",
            )
        cases = _cases(folder, ending)
        return cls(folder, channels, labels, ignore, ending, axis % 3, _read_splits(folder, cases))

    @cached_property
    def cases(self) -> tuple[str, ...]:
        """All cases that have an image."""
        return tuple(sorted(self._sides["Tr"] | self._sides["Ts"]))

    @property
    def training_cases(self) -> tuple[str, ...]:
        """The cases of ``imagesTr``: those that teach and those held out for the selection."""
        return tuple(sorted(self._sides["Tr"]))

    @property
    def classes(self) -> dict[str, int]:
        """The classes without the background."""
        return {name: value for name, value in self.labels.items() if value != 0}

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Names of the weak label sets that lie in the folder."""
        return tuple(sorted(p.name.removeprefix("labelsTr_") for p in self.folder.glob("labelsTr_*") if p.is_dir()))

    def region(self, name: str) -> tuple[int, ...]:
        """Class values of a class name or a union such as ``LV+Myo``.

        Raises:
            KeyError: A part of the name is no class, and the message names the nearest one; or it is there twice.
        """
        values = []
        for part in name.split("+"):
            if part not in self.labels:
                raise KeyError(f"{part!r} is no class of {self.folder}{did_you_mean(part, self.labels)}")
            values.append(self.labels[part])
        if twice := named_twice(name):
            raise KeyError(twice)
        return tuple(values)

    def cases_of(self, name: str) -> list[str]:
        """The cases of a split, list, patient or case, by its name.

        Raises:
            DatasetError: Nothing has that name.
        """
        try:
            return self.splits.cases(name)
        except KeyError as error:
            missing = str(error.args[0])
            if missing in self.cases:
                raise DatasetError(
                    f"the case {missing!r} belongs to no patient.",
                    str(self.folder / "splits.json"),
                    'Add it under patients, as {"p1": ["case1"]}.',
                ) from None
            if missing != name:
                near = did_you_mean(missing, [*self.splits.patients, *self.cases])
                raise DatasetError(
                    f"the list {name!r} names {missing!r}, which is no patient or case{near}",
                    str(self.folder / "splits.json"),
                    "Mend the name.",
                ) from None
            known = [*self.splits.lists, *self.splits.patients, *self.cases]
            raise DatasetError(
                f"{name!r} is no list, patient or case{did_you_mean(name, known)}",
                str(self.folder / "splits.json"),
                f"The lists are: {', '.join(self.splits.lists)}.",
            ) from None

    def image_paths(self, case: str) -> list[Path]:
        """The files of a case's channels; of a picture that holds them all, as nnU-Net has colours, that one."""
        side = self._side(case)
        paths = [
            self.folder / f"images{side}" / f"{case}_{channel:04d}{self.file_ending}"
            for channel in range(len(self.channels))
        ]
        in_one = self.file_ending in PICTURE_ENDINGS and len(paths) > 1 and not paths[1].exists()
        return paths[:1] if in_one else paths

    def label_path(self, case: str, label_set: str = "full") -> Path:
        """The file of a case's labels: full masks, or one of the weak sets."""
        if label_set == "full":
            return self.folder / f"labels{self._side(case)}" / f"{case}{self.file_ending}"
        return self.folder / f"labelsTr_{label_set}" / f"{case}{self.file_ending}"

    def read_image(self, case: str) -> tuple[Float[np.ndarray, "C X Y Z"], Volume]:
        """All channels of a case as float32, and the volume of the first one.

        Raises:
            VolumeError: A file is missing or unreadable, the channels differ in shape or affine, or a voxel
                is NaN or infinite.
        """
        array, image = read_channels(self.image_paths(case))
        if len(array) != len(self.channels):
            raise VolumeError(
                f"{case} has {len(array)} channel(s), dataset.json names {len(self.channels)}.",
                str(self.image_paths(case)[0].parent),
                "Mend channel_names, or add CASE_0001, ….",
            )
        return array, image

    def read_grid(self, case: str) -> Volume:
        """The first channel of a case as its file stores it: where the case's voxels lie.

        Raises:
            VolumeError: The file is missing or unreadable.
        """
        return volume_io.read_stored_channels(self.image_paths(case)[0])[0][0]

    def read_labels(self, case: str, label_set: str, image: Volume) -> Integer[np.ndarray, "X Y Z"]:
        """The labels of a case, as unsigned bytes, checked against its image and ``dataset.json``.

        Raises:
            VolumeError: The file is missing or unreadable, its grid is not the image's, or it holds a value
                that ``dataset.json`` does not name.
        """
        return self.read_label_file(self.label_path(case, label_set), image)

    def read_label_file(self, path: Path, image: Volume) -> Integer[np.ndarray, "X Y Z"]:
        """Labels from any file, checked in the same way."""
        volume = volume_io.read(path)
        require_same_grid(path, volume, image)
        values = np.unique(volume.array)
        unknown = sorted(set(values.tolist()) - {*self.labels.values(), self.ignore})
        if unknown:
            raise VolumeError(
                f"{path.name} holds the values {unknown[:5]}, which dataset.json does not name.",
                str(path.parent),
                f"It names {self.labels} and ignore = {self.ignore}.",
            )
        return volume.array.astype(np.uint8)

    def to_slices(self, array: np.ndarray) -> np.ndarray:
        """Moves the slice axis (of the last three) to their front: ``[…, X, Y, Z]`` to ``[…, S, H, W]``."""
        return np.moveaxis(array, array.ndim - 3 + self.slice_axis, array.ndim - 3)

    @property
    def axes(self) -> str:
        """The letters of a slice's two axes and then of the slice axis; x, y, z are the array's axes in the file."""
        letters = "xyz".replace("xyz"[self.slice_axis], "")
        return letters + "xyz"[self.slice_axis]

    def regions(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Class values of a class, a union, or of both sides of a pair such as ``LV:Myo``.

        Raises:
            KeyError: See :meth:`region`; or both sides are the same.
        """
        sides = tuple(self.region(side) for side in name.split(":"))
        if twice := named_twice(name):
            raise KeyError(twice)
        return sides

    def from_slices(self, array: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_slices`."""
        return np.moveaxis(array, array.ndim - 3, array.ndim - 3 + self.slice_axis)

    def slice_spacing_mm(self, volume: Volume) -> tuple[float, float, float]:
        """Spacing of a slice's two axes, then the distance of slices, in mm."""
        spacing = list(volume.spacing_mm)
        between = spacing.pop(self.slice_axis)
        return spacing[0], spacing[1], between

    def fingerprint(self) -> str:
        """Tells datasets apart: the descriptions' content, and name and size of every volume."""
        digest = sha256()
        for name in ("dataset.json", "splits.json", "priors.csv"):
            path = self.folder / name
            digest.update(path.read_bytes() if path.is_file() else b"")
        for pattern in ("images*/*", "labels*/*"):
            for path in sorted(self.folder.glob(pattern)):
                digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _sides(self) -> dict[str, set[str]]:
        return _cases(self.folder, self.file_ending)

    def _side(self, case: str) -> str:
        return "Ts" if case in self._sides["Ts"] else "Tr"


def describe(
    folder: Path,
    *,
    channels: Iterable[str],
    labels: Mapping[str, int],
    ignore: int,
    file_ending: str,
    training_cases: int,
) -> None:
    """Writes ``dataset.json`` as nnU-Net v2 reads it."""
    description = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {**labels, "ignore": ignore},
        "numTraining": training_cases,
        "file_ending": file_ending,
        "slice_axis": 2,
    }
    atomic.write_text(folder / "dataset.json", json.dumps(description, indent=2) + "\n")


def write_splits(folder: Path, splits: Splits) -> None:
    """Writes ``splits.json``."""
    named = {name: members for name, members in splits.lists.items() if name not in SPLITS}
    content = {"patients": splits.patients, **{s: splits.lists.get(s, []) for s in SPLITS}, "lists": named}
    atomic.write_text(folder / "splits.json", json.dumps(content, indent=1) + "\n")


def read_channels(paths: Sequence[Path]) -> tuple[Float[np.ndarray, "C X Y Z"], Volume]:
    """The channels of a case as float32, and the volume of the first one; raises as ``Dataset.read_image``."""
    read = [(path, *stored) for path in paths for stored in volume_io.read_stored_channels(path)]
    image = replace(read[0][1], array=read[0][2](read[0][1].array))
    for path, volume, _ in read:
        require_same_grid(path, volume, image)
    array = np.stack([np.asarray(scaling(volume.array), dtype=np.float32) for _, volume, scaling in read])
    for (path, *_), channel in zip(read, array, strict=True):
        require_finite(channel, path)
    return array, image


def require_finite(array: np.ndarray, path: Path) -> None:
    """Raises VolumeError where an image holds NaN or infinite voxels."""
    wrong = int(array.size - np.isfinite(array).sum())
    if wrong:
        raise VolumeError(
            f"{path.name} holds {wrong} voxels of {array.size} that are NaN or infinite.",
            str(path.parent),
            "Replace them (by the background's intensity) or leave the case out.",
        )


def require_same_grid(path: Path, volume: Volume, image: Volume) -> None:
    """Raises VolumeError where a volume's shape or affine is not that of its image; pictures may say no affine."""
    if volume.array.shape != image.array.shape:
        raise VolumeError(
            f"{path.name} has the shape {volume.array.shape}, its image {image.array.shape}.",
            str(path.parent),
            "Resample it onto the image's grid.",
        )
    if not (volume.measured and image.measured):
        return  # few tools write the size of a picture's pixels again
    corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in image.array.shape))])
    apart_mm = np.abs(corners @ (volume.affine - image.affine).T).max()
    # a tenth of a voxel in the corners: exporters round the affine, and nothing smaller matters
    if not apart_mm <= 0.1 * min(image.spacing_mm):
        if volume_io.ending(path) in PICTURE_ENDINGS:
            own, other = (
                f"{rows:.4g} x {columns:.4g} mm" for rows, columns, _ in (volume.spacing_mm, image.spacing_mm)
            )
            raise VolumeError(
                f"{path.name} has pixels of {own}, its image of {other}.",
                str(path.parent),
                "Write the image's resolution into it (TIFF's resolution tags, PNG's pHYs), or none at all.",
            )
        raise VolumeError(
            f"{path.name} has another affine than its image (voxels are up to {apart_mm:.3g} mm apart).",
            str(path.parent),
            "Resample it onto the image's grid, or copy the image's header if the voxels agree.",
        )


def named_twice(region: str) -> str:
    """What a region's name says twice: a class of a union, or a pair's one side; empty where it does not."""
    sides = [side.split("+") for side in region.split(":")]
    again = [part for parts in sides for part in parts if parts.count(part) > 1]
    if again:
        return f"{region!r} names {again[0]!r} twice."
    return f"{region!r} is the same on both sides." if len({frozenset(side) for side in sides}) < len(sides) else ""


def are_names(content: object) -> bool:
    """Whether what a JSON file holds is a list of names, of cases or patients."""
    return isinstance(content, list) and all(isinstance(name, str) for name in content)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(
            f"{path.name} is not there.",
            str(path.parent),
            "A dataset folder is nnU-Net v2's raw layout; boundseg convert writes one.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path.name} is not valid JSON: {error}", str(path.parent), "Mend it.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path.name} is not a JSON object.", str(path.parent), "Mend it.")
    return content


def _cases(folder: Path, ending: str) -> dict[str, set[str]]:
    """Cases with an image, by the side of the layout on which they lie."""
    return {
        side: {
            path.name[: -len("_0000" + ending)]
            for path in (folder / f"images{side}").glob(f"*_0000{ending}")
            if not path.name.startswith(".")
        }
        for side in ("Tr", "Ts")
    }


def _read_splits(folder: Path, cases: dict[str, set[str]]) -> Splits:
    path = folder / "splits.json"
    if not path.is_file():
        # every case a patient of its own; what lies in imagesTs tests
        everything = sorted(cases["Tr"] | cases["Ts"])
        lists = {"train": sorted(cases["Tr"]), "validation": [], "test": sorted(cases["Ts"])}
        return Splits({case: [case] for case in everything}, lists)
    content = _read_json(path)
    patients, named = content.get("patients", {}), content.get("lists", {})
    sides = {name: content.get(name, []) for name in SPLITS}
    well_formed = (
        isinstance(patients, dict)
        and isinstance(named, dict)
        and all(are_names(members) for members in (*patients.values(), *sides.values(), *named.values()))
    )
    if not well_formed:
        raise DatasetError(
            "splits.json is not of the expected form.",
            str(folder),
            'It reads {"patients": {"p1": ["case1"]}, "train": ["p1"], "validation": [], "test": [], "lists": {}}.',
        )
    return Splits(patients, sides | named)
