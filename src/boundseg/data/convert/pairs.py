"""What layouts of one scan and one mask of 0 and 1 a patient share: pairing, checking, writing."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data import volume_io
from boundseg.data.convert.split import read_or_draw
from boundseg.data.convert.staging import whole_folder
from boundseg.data.volume_io import NIFTI_ENDINGS, Volume
from boundseg.errors import DatasetError, InputError, Problem
from boundseg.nearest import did_you_mean

ENDING = ".nii.gz"


@dataclass(frozen=True)
class Layout:
    """A download in which every patient has one scan and one mask.

    Attributes:
        title: What messages call it.
        target: The class that the masks' 1 means.
        channel: What the scans are.
        images: Pattern of the scans' names without their ending.
        mask_suffix: What a mask's name has after its scan's.
        endings: Of both.
        remedy: Which folder is meant.
    """

    title: str
    target: str
    channel: str
    images: str
    mask_suffix: str
    endings: tuple[str, ...]
    remedy: str


def convert_pairs(
    layout: Layout,
    source: Path,
    destination: Path,
    targets: Sequence[str],
    report: Callable[[str], None],
    seed: int,
) -> str:
    """Writes a dataset folder from such a download; every problem of it is told at once, and then nothing is written.

    Voxels, spacing and orientation stay; scans that are NIfTI are copied byte by byte. ``split.csv`` (columns case,
    split) is honoured; what it does not say is drawn, see :func:`boundseg.data.convert.split.read_or_draw`.

    Returns:
        How the patients were split.

    Raises:
        InputError: Something is missing, unreadable, or does not fit together; the destination is not empty.
    """
    for name in targets:
        if name != layout.target:
            near = did_you_mean(name, [layout.target])
            raise DatasetError(f"{name!r} is no class of {layout.title}{near}", remedy=f"Use {layout.target}.")
    pairs, problems = _find(layout, source)
    try:
        split = read_or_draw(source / "split.csv", set(pairs), "case", seed)
    except InputError as error:
        raise DatasetError.of([*problems, *error.problems]) from None
    with whole_folder(destination) as folder:
        for case, (image, mask) in pairs.items():
            try:
                _write(case, image, mask, folder, "Ts" if split.of[case] == "test" else "Tr", layout)
            except InputError as error:
                problems += error.problems
            report(case)
        if problems:
            # a package that is not installed is missed by every file
            raise DatasetError.of(dict.fromkeys(problems))
        folders.describe(
            folder,
            channels=[layout.channel],
            labels={"background": 0, layout.target: 1},
            ignore=2,
            file_ending=ENDING,
            training_cases=len(split.of) - len(split.cases("test")),
        )
        folders.write_splits(folder, split.splits())
    return split.told


def _find(layout: Layout, source: Path) -> tuple[dict[str, tuple[Path, Path]], list[Problem]]:
    """Scans and masks by case, in the folder and those below it, and what is missing or there twice."""
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(source.rglob(f"{layout.images}*")):
        if volume_io.ending(path) in layout.endings:
            by_stem.setdefault(volume_io.stem(path), []).append(path)
    named = layout.images.replace("[0-9]", "N")
    if not by_stem:
        fact = f"{source} holds no {named}{layout.endings[0]}, the scans of {layout.title}."
        raise DatasetError(fact, remedy=layout.remedy)
    if not any(stem.endswith(layout.mask_suffix) for stem in by_stem):
        fact = f"{source} holds {len(by_stem)} scans of {layout.title}, and no {named}{layout.mask_suffix}."
        raise DatasetError(fact, remedy=layout.remedy)
    problems = [
        Problem(f"{stem} is there {len(paths)} times: {_listed(paths, source)}.", str(source), "Keep one of them.")
        for stem, paths in by_stem.items()
        if len(paths) > 1
    ]
    pairs = {}
    suffix = layout.mask_suffix
    for stem, (path, *_) in by_stem.items():
        partner = stem.removesuffix(suffix) if stem.endswith(suffix) else stem + suffix
        if partner not in by_stem:
            what = "the scan" if stem.endswith(suffix) else "the mask"
            fact = f"{path.name} is there, {what} {partner}{volume_io.ending(path)} is not."
            problems.append(Problem(fact, str(path.parent), f"Download it again, or remove {path.name}."))
        elif stem.endswith(suffix):
            pairs[partner] = (by_stem[partner][0], path)
    return dict(sorted(pairs.items())), problems


def _listed(paths: Iterable[Path], source: Path) -> str:
    return ", ".join(str(path.relative_to(source)) for path in paths)


def _write(case: str, image: Path, mask: Path, folder: Path, side: str, layout: Layout) -> None:
    scan: Volume | None = None
    problems: list[Problem] = []
    try:
        scan = volume_io.read(image)
        folders.require_finite(scan.array, image)
    except InputError as error:
        problems += error.problems
    try:
        volume = volume_io.read(mask)
        counts = _counts(volume.array)
        if set(counts) - {0, 1}:
            fact = f"{mask.name} holds the values {sorted(counts)[:6]}."
            remedy = f"Masks of {layout.title} hold 0 and 1 ({layout.target}): download it again, or renumber them."
            problems.append(Problem(fact, str(mask.parent), remedy))
        elif not counts.get(1):
            fact = f"{mask.name} holds no voxel of the class {layout.target}."
            problems.append(Problem(fact, str(mask.parent), "Download it again, or remove the case."))
        if scan is not None:
            folders.require_same_grid(mask, volume, scan)
    except InputError as error:
        problems += error.problems
    if problems or scan is None:
        raise InputError.of(problems)
    target = folder / f"images{side}" / f"{case}_0000{ENDING}"
    target.parent.mkdir(exist_ok=True)
    _copy_image(image, target)
    volume_io.write(folder / f"labels{side}" / f"{case}{ENDING}", volume.array.astype(np.uint8), scan)


def _counts(array: np.ndarray) -> Mapping[float, int]:
    values, counts = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _copy_image(image: Path, target: Path) -> None:
    """The scan as it is: its own bytes where it is NIfTI, else its voxels and geometry."""
    ending = volume_io.ending(image)
    if ending == ENDING:
        shutil.copyfile(image, target)
    elif ending in NIFTI_ENDINGS:
        # without a time, so that the same scan gives the same bytes
        with image.open("rb") as file, gzip.GzipFile(target, "wb", 1, mtime=0) as packed:
            shutil.copyfileobj(file, packed)
    else:
        stored = volume_io.read(image)
        volume_io.write(target, stored.array, stored)
