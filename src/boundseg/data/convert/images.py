"""Pictures (PNG, TIFF, …) and label maps of them to a dataset folder: microscopy, histology, photographs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data.convert.split import read_or_draw
from boundseg.data.convert.staging import whole_folder
from boundseg.data.picture_io import (
    COLOURS,
    LOSSY,
    PICTURE_ENDINGS,
    UNREAD_PICTURES,
    Picture,
    read_picture,
    write_picture,
)
from boundseg.errors import DatasetError, InputError, Problem
from boundseg.nearest import did_you_mean

SOURCES = (*PICTURE_ENDINGS, *LOSSY, ".bmp")
BACKGROUND, IGNORE = "background", "ignore"
CASE = "{case}"


@dataclass
class Pictures:
    """What was converted.

    Attributes:
        split: How the cases were split.
        unmasked: Cases without a mask.
        unmarked: Whether pixels of 0, which the map does not name, became background.
        spacings: For each source of a spacing, and the spacing in mm, how many pictures have it.
    """

    split: str = ""
    unmasked: list[str] = field(default_factory=list)
    unmarked: bool = False
    spacings: dict[tuple[str, float, float], int] = field(default_factory=dict)


def parse_classes(texts: Sequence[str]) -> dict[int, str]:
    """What the values of masks mean, from texts such as ``1=tumour,255=stroma``.

    Raises:
        DatasetError: A part is no ``VALUE=CLASS``, a value is named twice, or there is no class.
    """
    meaning: dict[int, str] = {}
    problems = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        # a letter and its accent may be typed as two characters
        match = re.fullmatch(r"(\d+)\s*=\s*(\S.*)", unicodedata.normalize("NFC", part))
        if not match:
            problems.append(Problem(f"--map: {part!r} is no VALUE=CLASS.", "", 'Give --map "1=tumour,2=stroma".'))
        elif unfit := re.sub(r"[\w. -]", "", match[2]):
            fact = f"--map: the class {match[2]!r} has {unfit[0]!r} in its name."
            problems.append(Problem(fact, "", "Use letters, digits, blanks, and . - _ within it."))
        elif meaning.setdefault(int(match[1]), match[2]) != match[2]:
            fact = f"--map: {match[1]} means both {meaning[int(match[1])]!r} and {match[2]!r}."
            problems.append(Problem(fact, "", "Keep one of them."))
    if not problems and not set(meaning.values()) - {BACKGROUND, IGNORE}:
        problems.append(Problem("--map: no value means a class.", "", 'Give --map "1=tumour,2=stroma".'))
    if problems:
        raise DatasetError.of(problems)
    return meaning


def convert_images(
    source: Path,
    destination: Path,
    meaning: Mapping[int, str],
    *,
    masks: Path | None = None,
    names: str = CASE,
    spacing_mm: tuple[float, float] | None = None,
    report: Callable[[str], None] = lambda case: None,
    seed: int = 0,
) -> Pictures:
    """Writes a dataset folder whose volumes are pictures of one slice; every problem is told at once.

    Numbers stay what they are, 16 bits as 16 bits. Colours become three channels, a file each (``CASE_0000`` red,
    ``CASE_0001`` green, ``CASE_0002`` blue), which nnU-Net reads too. The folder is of TIFF where one of the pictures
    is, else of PNG. ``split.csv`` (columns case, split, and patient where somebody has several) is
    honoured; what it does not say is drawn.

    Args:
        source: The folder of pictures; its own folders are not looked into.
        destination: The dataset folder to be written; must not exist, or be empty.
        meaning: Values of masks to classes, ``background`` or ``ignore``, see :func:`parse_classes`; 0 is background
            unless it is named.
        masks: The folder of label maps, one number per pixel; a case may have none. It may be ``source`` itself.
        names: How their files are called, without their ending.
        spacing_mm: Between rows and between columns; left out, what each file says.
        report: Told of each case.
        seed: Of the cases that are drawn.

    Raises:
        InputError: Pictures that cannot be read, are transparent or of different channels; masks of no picture, of
            another shape, of colours, or with a value that has no meaning; another value that is background where
            nothing says what 0 is. Nothing is written then.
    """
    _require_zero(meaning)
    if names.count(CASE) != 1:
        raise DatasetError(
            f"--files {names!r} does not say where the case stands.", remedy="Give --files '{case}_mask'."
        )
    pictures, label_maps = _files(source), [] if masks is None else _files(masks)
    problems = [
        Problem(f"{path.name} is no picture that boundseg reads.", str(path.parent), "Save it as PNG, or move it.")
        for path in dict.fromkeys([*pictures, *label_maps])
        if path.suffix.lower() in UNREAD_PICTURES
    ]
    if masks is not None and masks.resolve() == source.resolve():
        if names == CASE:
            fact = "masks lie beside their pictures, and nothing says which is which."
            raise DatasetError(fact, str(source), "Say how masks are called: --files '{case}_mask'.")
        label_maps = [path for path in pictures if _case(path, names)]
        pictures = [path for path in pictures if not _case(path, names)]
    images = _by_case(pictures, CASE)
    if not images:
        nothing = Problem(f"{source} holds no picture.", "", f"Pictures end in {', '.join(SOURCES)}.")
        raise DatasetError.of([nothing, *problems])
    drawn = _by_case(label_maps, names)
    problems += [
        Problem(f"{path.name} is of no picture of {source}{did_you_mean(case, images)}", str(masks), _NAMED)
        for case, path in drawn.items()
        if case not in images
    ]
    if masks is not None and not drawn:
        problems.append(Problem(f"{masks} holds no mask.", "", "Give the folder of label maps (PNG, TIFF)."))
    try:
        split = read_or_draw(source / "split.csv", set(images), "case", seed, masked=set(drawn) & set(images))
    except InputError as error:
        raise DatasetError.of([*problems, *error.problems]) from None
    unmarked, meaning = bool(drawn) and 0 not in meaning, {0: BACKGROUND, **meaning}
    classes = [name for name in dict.fromkeys(meaning.values()) if name not in (BACKGROUND, IGNORE)]
    labels = {BACKGROUND: 0} | {name: i for i, name in enumerate(classes, start=1)}
    values = {value: {**labels, IGNORE: len(labels)}[name] for value, name in meaning.items()}
    done = Pictures(split.told, [case for case in images if case not in drawn], unmarked)
    counts: dict[int, str] = {}
    tiff = any(path.suffix.lower() in (".tif", ".tiff") for path in images.values())
    ending = ".tif" if tiff else ".png"
    with whole_folder(destination) as folder:
        for case, path in images.items():
            side = "Ts" if split.of[case] == "test" else "Tr"
            try:
                picture = read_picture(path)
                channels = picture.channels.shape[2]
                counts.setdefault(channels, path.name)
                spacing = spacing_mm or (picture.spacing_mm if picture.told else None)
                told = ("--spacing" if spacing_mm else picture.told, *(spacing or picture.spacing_mm))
                done.spacings[told] = done.spacings.get(told, 0) + 1
                (folder / f"images{side}").mkdir(exist_ok=True)
                for channel in range(channels):
                    target = folder / f"images{side}" / f"{case}_{channel:04d}{ending}"
                    write_picture(target, picture.channels[..., channel], spacing)
                if case in drawn:
                    (folder / f"labels{side}").mkdir(exist_ok=True)
                    mask = _labels(drawn[case], picture, values)
                    write_picture(folder / f"labels{side}" / f"{case}{ending}", mask, spacing)
            except InputError as error:
                problems += error.problems
            report(case)
        if len(counts) > 1:
            fact = "pictures differ in channels: " + ", ".join(f"{name} has {n}" for n, name in counts.items()) + "."
            problems.append(Problem(fact, str(source), "Save all of them as RGB, or all of them as grey."))
        if problems:
            raise DatasetError.of(dict.fromkeys(problems))
        (channels,) = counts
        names_of = {1: ("grey",), 3: COLOURS}.get(channels, tuple(f"channel {i}" for i in range(channels)))
        folders.describe(
            folder,
            channels=names_of,
            labels=labels,
            ignore=len(labels),
            file_ending=ending,
            training_cases=len(split.of) - len(split.cases("test")),
        )
        folders.write_splits(folder, split.splits())
    return done


_NAMED = "Name masks as their pictures, or say how they are called: --files '{case}_mask'."


def _require_zero(meaning: Mapping[int, str]) -> None:
    """Refuses maps of drawings: where background was drawn, 0 is what nobody drew, and would teach as background."""
    other = next((value for value, name in meaning.items() if name == BACKGROUND), 0)
    if other and 0 not in meaning:
        fact = f"--map: {other} is background, and nothing says what 0 is."
        remedy = 'Is 0 "not drawn"? Use boundseg convert labels for such drawings, or add 0=background (or 0=ignore).'
        raise DatasetError(fact, remedy=remedy)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]


def _case(path: Path, names: str) -> str:
    """The part of a file's name that says the case; empty where it is called otherwise."""
    before, _, after = names.partition(CASE)
    own = path.stem.startswith(before) and path.stem.endswith(after)
    return path.stem[len(before) : len(path.stem) - len(after)] if own else ""


def _by_case(paths: Iterable[Path], names: str) -> dict[str, Path]:
    """Pictures by the case that their names say."""
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        if path.suffix.lower() not in SOURCES:
            continue
        case = _case(path, names) or path.stem
        if case in found:
            fact = f"{path.name} and {found[case].name} are both of {case}."
            problems.append(Problem(fact, str(path.parent), "Keep one of them."))
        found[case] = path
    if problems:
        raise DatasetError.of(problems)
    return found


def _labels(path: Path, picture: Picture, values: Mapping[int, int]) -> np.ndarray:
    if path.suffix.lower() in LOSSY:
        remedy = "JPEG changes values at borders: save it as PNG or TIFF."
        raise DatasetError(f"{path.name} is no label map.", str(path.parent), remedy)
    mask = read_picture(path, palette="index").channels
    if mask.shape[2] > 1:
        fact = f"{path.name} is of colours, {mask.shape[2]} numbers per pixel."
        raise DatasetError(fact, str(path.parent), "Save a label map, with the value of a class in each pixel.")
    if mask.shape[:2] != picture.channels.shape[:2]:
        fact = f"{path.name} has {mask.shape[0]} x {mask.shape[1]} pixels, its picture "
        fact += f"{picture.channels.shape[0]} x {picture.channels.shape[1]}."
        raise DatasetError(fact, str(path.parent), "Is it of this picture? Save it at full size.")
    held = np.unique(mask).tolist()
    if unknown := [value for value in held if value not in values][:6]:
        shown = ", ".join(f"{value:g}" for value in unknown)
        remedy = f'Say what it means; --map "…,{unknown[0]:g}=ignore" passes over it.'
        raise DatasetError(f"{path.name} holds {shown}, of which --map says nothing.", str(path.parent), remedy)
    labels = np.zeros(mask.shape[:2], np.uint8)
    for value in held:
        labels[mask[..., 0] == value] = values[value]
    return labels
