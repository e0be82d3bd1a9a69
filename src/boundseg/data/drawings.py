"""Label maps from drawing tools to a weak label set: what was drawn becomes labels, what was not becomes ignore."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Integer

from boundseg.data import volume_io
from boundseg.data.dataset import Dataset
from boundseg.data.picture_io import LOSSY, PICTURE_ENDINGS, UNREAD_PICTURES
from boundseg.data.same_grid import placing
from boundseg.data.segments import SUFFIX, contradicted, segment_names
from boundseg.errors import DatasetError, InputError, Problem, VolumeError
from boundseg.nearest import did_you_mean

IGNORE = "ignore"
NAMES = "{case}"
_OF_TEST = "Draw on others; or move the images to imagesTr, and their patients in splits.json from test to train."
_ENDINGS = ", ".join((*volume_io.NIFTI_ENDINGS, *volume_io.ITK_ENDINGS))
_PICTURES = ", ".join(PICTURE_ENDINGS)
# what else tools save as images: passed over in silence, a drawing would be missed
UNREAD = (".npy", ".npz", ".h5", ".img", ".hdr", ".nhdr", ".mgz", ".dcm", ".bmp", *LOSSY, *UNREAD_PICTURES)


@dataclass
class Drawn:
    """What a folder of drawings held.

    Attributes:
        voxels: Labelled voxels of each class, the background among them.
        cases: Cases in which each is drawn.
        total: Voxels of all images that were drawn in.
        turned: Cases whose axes were brought onto the image's.
        placed: Cases whose drawing covers a part of the image.
        empty: Cases in which nothing was drawn.
        missing: Training cases without a drawing, and without labels of an earlier call.
        kept: Training cases without a drawing whose labels of an earlier call stay.
        folders: Folders beside the drawings that hold files as well, and were not looked into.
        of_test: Test cases whose drawings were passed over: they would teach nothing.
        unused: Values and names of the map that no drawing holds.
    """

    voxels: dict[str, int] = field(default_factory=dict)
    cases: dict[str, int] = field(default_factory=dict)
    total: int = 0
    turned: list[str] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    of_test: list[str] = field(default_factory=list)
    unused: list[Drawing] = field(default_factory=list)


Drawing = int | str  # what was drawn: the value of its voxels, or the name of a segment in 3D Slicer


def parse_meaning(texts: Sequence[str], dataset: Dataset) -> dict[Drawing, str]:
    """What was drawn with which value, from texts such as ``1=LV,2=background``; 0 means ignore unless it is named.

    Segments of 3D Slicer may be named instead, as ``ventricle=LV``: their values follow the order of drawing.

    Raises:
        DatasetError: A part is no ``DRAWN=LABEL``, a value is named twice, or a label is none of the dataset's; all
            of it is listed.
    """
    known = [*dataset.labels, IGNORE]
    meaning: dict[Drawing, str] = {}
    problems = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        value, _, label = (piece.strip() for piece in part.rpartition("="))
        if not value or not label:
            remedy = 'Give --map "1=LV,2=background": drawn value, then the label that it means.'
            problems.append(Problem(f"--map: {part!r} is no DRAWN=LABEL.", "", remedy))
            continue
        drawn: Drawing = int(value) if re.fullmatch(r"-?[0-9]+", value) else value
        if label not in known:
            fact = f"--map: {label!r} is no label{did_you_mean(label, known)}"
            where = str(dataset.folder / "dataset.json")
            problems.append(Problem(fact, where, f"The labels are: {', '.join(known)}."))
        if meaning.setdefault(drawn, label) != label:
            fact = f"--map: {value} means both {meaning[drawn]!r} and {label!r}."
            problems.append(Problem(fact, "", "Keep one of them."))
    if not problems and all(label == IGNORE for label in meaning.values()):
        problems.append(Problem("--map: no value means a class.", "", 'Give --map "1=LV,2=background".'))
    if problems:
        raise DatasetError.of(problems)
    return {0: IGNORE, **meaning}


def convert_drawings(
    folder: Path,
    dataset: Dataset,
    name: str,
    meaning: Mapping[Drawing, str],
    names: str = NAMES,
    report: Callable[[str], None] = lambda case: None,
) -> Drawn:
    """Writes ``labelsTr_NAME`` from label maps (ITK-SNAP, 3D Slicer, napari, …); all of them, or none.

    A drawing's voxels must be voxels of the case's image. Axes in another order or direction, and boxes cut from the
    image, are brought onto its grid, see :func:`boundseg.data.same_grid.placing`.

    Args:
        folder: Of the drawings, one file a case: NIfTI, NRRD (also ``.seg.nrrd``), MetaImage.
        dataset: The dataset; a set of that name is replaced case by case.
        name: Of the label set.
        meaning: Drawn values to labels of the dataset or ``ignore``, see :func:`parse_meaning`.
        names: How the files are called, without their ending.
        report: Told of each case.

    Raises:
        InputError: A file is of no case, cannot be read, lies on another grid, or holds a value that has no meaning,
            or all are of test cases; every such problem is listed, and nothing is written.
    """
    if name == "full" or not re.fullmatch(r"[^\W_][\w.-]*", name):
        fact = f"a weak label set cannot be called {name!r}."
        raise DatasetError(fact, remedy="Choose another --name, of letters, digits, _ and -.")
    if folder.is_file():
        raise DatasetError(f"{folder} is a file.", remedy=f"Give its folder, {folder.parent}: one file a case.")
    target = dataset.label_path("", name).parent
    if folder.resolve() == target.resolve():
        raise DatasetError("the drawings lie where the labels go.", str(folder), "Move the drawings elsewhere.")
    paths, of_test, problems = _match(folder, dataset, names)
    values = {value: dataset.ignore if to == IGNORE else dataset.labels[to] for value, to in meaning.items()}
    drawn, seen = Drawn(dict.fromkeys(dataset.labels, 0), dict.fromkeys(dataset.labels, 0)), set[Drawing]()
    segments: dict[int, tuple[str, str]] = {}
    with TemporaryDirectory(prefix=".drawings", dir=dataset.folder) as temporary:
        for case, path in paths.items():
            report(case)
            try:
                image = dataset.read_grid(case)
                problems += _misnamed(path, meaning, dataset, segments)
                labels = _labels(case, path, image, values, dataset.ignore, drawn, seen)
            except InputError as error:
                problems += error.problems
                continue
            volume_io.write(Path(temporary) / f"{case}{dataset.file_ending}", labels, image)
            _count(case, labels, dataset, drawn)
        if problems:
            raise DatasetError.of(dict.fromkeys(problems))
        target.mkdir(exist_ok=True)
        for written in sorted(Path(temporary).iterdir()):
            written.replace(target / written.name)
    without = [case for case in dataset.training_cases if case not in paths]
    drawn.kept = [case for case in without if dataset.label_path(case, name).is_file()]
    drawn.missing = [case for case in without if case not in drawn.kept]
    beside = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
    drawn.folders = [path.name for path in beside if any(volume_io.ending(file) for file in path.rglob("*"))]
    drawn.of_test = of_test
    drawn.unused = [value for value in meaning if value != 0 and value not in seen]
    return drawn


def _match(folder: Path, dataset: Dataset, names: str) -> tuple[dict[str, Path], list[str], list[Problem]]:
    """The drawing of each training case, the test cases that have one, and the files that are of no case."""
    if names.count(NAMES) != 1:
        raise DatasetError(
            f"--files {names!r} does not say where the case stands.", remedy="Give --files '{case}-label'."
        )
    # pictures are drawings of pictures
    pictures = dataset.file_ending in PICTURE_ENDINGS
    unread = UNREAD if pictures else (*UNREAD, *PICTURE_ENDINGS)
    others = sorted(path for path in folder.glob("*") if path.suffix.lower() in unread)
    found = [path for path in sorted(folder.glob("*")) if volume_io.ending(path) and not path.name.startswith(".")]
    found = [path for path in found if path not in others]
    problems = [
        Problem(
            f"{path.name} is no label map that boundseg reads.",
            str(folder),
            f"Save it as {_PICTURES if pictures else _ENDINGS}.",
        )
        for path in others
    ]
    if not found and not others:
        raise DatasetError(f"{folder} holds no drawing.", remedy=f"Give a folder of label maps ({_ENDINGS}).")
    before, _, after = names.partition(NAMES)
    paths: dict[str, Path] = {}
    of_test: list[str] = []
    for path in found:
        stem = volume_io.stem(path).removesuffix(SUFFIX)
        case = stem[len(before) : len(stem) - len(after)]
        where = str(folder)
        if stem != f"{before}{case}{after}" or case not in dataset.cases:
            near = did_you_mean(case, dataset.cases)
            remedy = "Rename it to CASE, or say how files are called: --files '{case}-label'."
            problems.append(Problem(f"{path.name} is of no case of {dataset.folder}{near}", where, remedy))
        elif case not in dataset.training_cases:
            of_test.append(case)
        elif case in paths:
            fact = f"{path.name} and {paths[case].name} are both of {case}."
            problems.append(Problem(fact, where, "Keep one of them."))
        else:
            paths[case] = path
    if of_test and not paths and not problems:
        problems.append(Problem("all drawings are of test cases, which teach nothing.", str(folder), _OF_TEST))
    return paths, of_test, problems


def _misnamed(
    path: Path, meaning: Mapping[Drawing, str], dataset: Dataset, before: dict[int, tuple[str, str]]
) -> list[Problem]:
    """Segments of 3D Slicer that the map names by their number, and whose name says otherwise."""
    names = segment_names(path)
    by_number = {n: meaning[n] for n, name in sorted(names.items()) if name not in meaning and n in meaning}
    return contradicted(path, names, by_number, [*dataset.labels, IGNORE], before)


def _labels(
    case: str,
    path: Path,
    image: volume_io.Volume,
    values: Mapping[Drawing, int],
    ignore: int,
    drawn: Drawn,
    seen: set[Drawing],
) -> Integer[np.ndarray, "X Y Z"]:
    names = segment_names(path)
    volume = volume_io.read(path)
    problems: list[Problem] = []
    held = np.unique(volume.array)
    whole = [int(value) for value in held if np.isfinite(value) and value == np.rint(value)]
    # a segment's name says more than its value
    meant = {value: names[value] if names.get(value) in values else value for value in whole}
    if len(whole) < len(held):
        remedy = "Save a label map, not an image or probabilities."
        problems.append(Problem(f"{path.name} holds values that are no whole numbers.", str(path.parent), remedy))
    elif unknown := [value for value in whole if meant[value] not in values][:6]:
        shown = ", ".join(f"{value} ({names[value]!r})" if value in names else f"{value}" for value in unknown)
        passed = ",".join(f"{names.get(value, value)}=ignore" for value in unknown)
        remedy = f'Say what it means; --map "…,{passed}" passes over it.'
        problems.append(Problem(f"{path.name} holds {shown}, of which --map says nothing.", str(path.parent), remedy))
    seen.update(meant.values())
    if path.name.lower().endswith(f"{SUFFIX}.nrrd") and volume.array.size == 1 and not volume.array.any():
        # an empty segmentation of 3D Slicer: one voxel, wherever it lies
        return np.full(image.array.shape, ignore, np.uint8)
    if volume_io.ending(path) in PICTURE_ENDINGS:
        # few tools write the size of a pixel again, and none says where a part lies: the shape has to be the image's
        if volume.array.shape != image.array.shape:
            rows, columns, of_rows, of_columns = *volume.array.shape[:2], *image.array.shape[:2]
            fact = f"{path.name} has {rows} x {columns} pixels, its image {of_rows} x {of_columns}."
            problems.append(Problem(fact, str(path.parent), "Is it of this case? Save the drawing at full size."))
        volume = replace(volume, affine=image.affine)
    try:
        place = placing(path, volume, image)
    except VolumeError as error:
        problems += error.problems
    if problems:
        raise VolumeError.of(problems)
    labels = np.full(volume.array.shape, ignore, np.uint8)
    for value in whole:
        labels[volume.array == value] = values[meant[value]]
    placed = place(labels, image.array.shape, ignore)
    if outside := int((labels != ignore).sum() - (placed != ignore).sum()):
        raise VolumeError(
            f"{path.name} has {outside} labelled voxels outside of its image.",
            str(path.parent),
            "Is it of this case? Draw on the image of the dataset.",
        )
    if place.moves_axes:
        drawn.turned.append(case)
    if volume.array.size < image.array.size:
        drawn.placed.append(case)
    return placed


def _count(case: str, labels: np.ndarray, dataset: Dataset, drawn: Drawn) -> None:
    drawn.total += labels.size
    for label, value in dataset.labels.items():
        voxels = int((labels == value).sum())
        drawn.voxels[label] += voxels
        drawn.cases[label] += voxels > 0
    if (labels == dataset.ignore).all():
        drawn.empty.append(case)
