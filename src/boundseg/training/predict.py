"""Volumes in, label maps out, each on its own grid."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from boundseg.data import volume_io
from boundseg.data.orientation import axis_codes, few
from boundseg.data.picture_io import PICTURE_ENDINGS, count_channels
from boundseg.data.stored import StoredSlices, read_stored
from boundseg.data.volume_io import ENDINGS, Volume
from boundseg.errors import InputError, Problem, VolumeError
from boundseg.inference import Ensemble, Predictor, VolumePredictor, largest_components, most_probable, regions_named
from boundseg.training import volumes
from boundseg.training.pixels import note
from boundseg.training.run import Run, Which, require_folder
from boundseg.training.together import require_alike, together


@dataclass
class Predicted:
    """What was written, and what the reader should know."""

    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class PartlyPredictedError(VolumeError):
    """Some cases could not be predicted.

    Attributes:
        done: The others.
    """

    done: Predicted


def predict(
    run: Run | Sequence[Run],
    images: Iterable[Path],
    out: Path,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    which: Which = "best",
    device: str = "cpu",
    mirror: bool = False,
    spacing_mm: tuple[float, float] | None = None,
    largest_component: Sequence[str] = (),
    report: Callable[[str], None] = lambda case: None,
) -> Predicted:
    """Predicts volumes; ``CASE.nii.gz`` has the affine, shape and orientation of its input, unsigned bytes.

    ``volumes.csv`` beside them has a row for each case and class: voxels, and mL; of one slice also mm2.

    Args:
        run: A finished or running training; of several, the probabilities are averaged on the scan's own grid.
        images: Files, or folders of files. Several channels of a case are ``CASE_0000``, ``CASE_0001``, …
        out: Where the label maps go.
        probabilities: Also write ``CASE_probability_CLASS``, float32, for every class but the background; a slash in
            the class's name becomes an underscore.
        overwrite: Replace files that exist.
        which: ``best`` or ``last`` weights.
        device: Where to compute.
        mirror: Average over images with rows and columns reversed, too; four times the work.
        spacing_mm: Of pictures, between rows and between columns; left out, what each file says.
        largest_component: Classes, or unions such as ``LV+Myo``, of which a volume keeps its largest connected part;
            ``all`` names each class by itself. Probabilities stay what they are.
        report: Told of each case.

    Raises:
        InputError: Before anything is computed: files that are no cases of the network's channels, an ``out`` that
            is no folder, files that exist, a spacing for what is no picture. Then volumes that cannot be read, do not
            fit, or would become too large (:func:`boundseg.data.enlarged.require_size`), when the others have been
            predicted; and a file that the disk refuses, which ends the prediction. These are a
            :class:`PartlyPredictedError`.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    require_alike(runs)
    run = runs[0]
    kept = regions_named(largest_component, run.labels)
    files, passed_over = _files(images)
    cases = _cases(files, len(run.environment["channels"]))
    targets = {case: _targets(case, paths, out, run.labels, probabilities) for case, paths in cases.items()}
    require_folder(out)
    _require_free(cases, targets, overwrite)
    if spacing_mm:
        _require_pictures(cases)
    volumes.require_own(out)
    predictor = together(runs, which, device, mirror)
    axis = int(run.environment["slice_axis"])
    done, problems, counted = Predicted(), list[Problem](), dict[str, volumes.Counted]()
    if passed_over:
        count = f"{len(passed_over)} file{'s' if len(passed_over) > 1 else ''}"
        done.notes.append(f"{count} passed over, no volume that boundseg reads: {few(passed_over)}")
    of_pixels: dict[str, list[str]] = {}
    for case, paths in cases.items():
        try:
            slices, volume = read_stored(paths, axis)
            if spacing_mm:
                volume = replace(volume, affine=np.diag([*spacing_mm, 1.0, 1.0]), measured=True)
            rows_mm, columns_mm = (s for i, s in enumerate(volume.spacing_mm) if i != axis)
            steps_mm = rows_mm, columns_mm, volume.spacing_mm[axis]
            for one in runs:
                one.require_size(case, paths[0], slices.shape, steps_mm)
        except InputError as error:
            problems += error.problems
            continue
        counts = _counted(run.labels, volume, slices.shape[0], steps_mm)
        try:
            _predict_case(predictor, slices, steps_mm, targets[case], volume, axis, counts, kept)
        except VolumeError as error:
            # what the disk refuses now it refuses of the next case as well
            left = len(cases) - list(cases).index(case)
            ended = Problem(f"the prediction ended there; {left} of {len(cases)} cases are to be done.")
            problems += [*error.problems, ended]
            break
        done.written.append(targets[case][LABELS])
        counted[case] = counts
        done.notes += _turned(case, volume, runs)
        if told := note(volume, steps_mm, next(filter(None, (one.taught_mm for one in runs)), [])):
            of_pixels.setdefault(told, []).append(case)
        cut = predictor.cuts(slices.shape, steps_mm)
        if cut:
            done.notes.append(f"{case}: {cut}")
        report(case)
    done.notes += [f"{few(cases_told)}: {told}" for told, cases_told in of_pixels.items()]
    try:
        if counted:
            volumes.write(out, counted)
    except VolumeError as error:
        problems += error.problems
    if problems:
        partly = PartlyPredictedError.of(problems)
        partly.done = done
        raise partly
    return done


def _counted(
    labels: Mapping[str, int], volume: Volume, slices: int, spacing_mm: tuple[float, float, float]
) -> volumes.Counted:
    if not volume.measured:
        return volumes.Counted(labels, None)
    return volumes.Counted(labels, math.prod(spacing_mm) / 1000, math.prod(spacing_mm[:2]) if slices == 1 else None)


def _turned(case: str, volume: Volume, runs: Sequence[Run]) -> list[str]:
    """A note where a scan's axes point where those of no training case did, as far as the runs say."""
    codes = axis_codes(volume.affine)
    for known in (run.environment.get("orientations") for run in runs):
        if known and codes not in known:
            there = " or ".join(known)
            return [f"{case}: its axes are {codes}, those of the training {there}. Nothing is turned: turn it first."]
    return []


UNFIT = r"[/\\\0]"  # letters that no file's name holds
# what lies beside volumes; .mhd keeps its voxels in the last two
BESIDE = (".txt", ".csv", ".json", ".md", ".raw", ".zraw")
LABELS = "label map"  # among the targets of a case, whose other names are classes


def _targets(
    case: str, paths: list[Path], out: Path, labels: Mapping[str, int], probabilities: bool
) -> dict[str, Path]:
    ending = volume_io.ending(paths[0]) or ""
    classes = [name for name in labels if labels[name]] if probabilities else []
    # PNG holds no fractions
    fractions = ".tif" if ending == ".png" else ending
    # a class may be called GTV/CTV, and a file may not
    found = {n: out / f"{case}_probability_{re.sub(UNFIT, '_', n)}{fractions}" for n in classes}
    if len(set(found.values())) < len(classes):
        raise VolumeError(
            f"the probabilities of {', '.join(classes)} would share a file: / becomes _ in its name.",
            remedy="Predict without --probabilities.",
        )
    return {LABELS: out / f"{case}{ending}"} | found


def _predict_case(
    predictor: Predictor | VolumePredictor | Ensemble,
    slices: StoredSlices,
    spacing_mm: tuple[float, float, float],
    targets: Mapping[str, Path],
    like: Volume,
    axis: int,
    counts: volumes.Counted,
    kept: Sequence[Sequence[int]],
) -> None:
    """Predicts a case, counts it and writes it as it goes; its files appear together, when all are whole."""
    labels = counts.labels
    with ExitStack() as files:
        write = {
            name: files.enter_context(volume_io.writing(path, like, np.uint8 if name == LABELS else np.float32, axis))
            for name, path in targets.items()
        }
        # zlib lets other threads run: files are compressed side by side, and while the next slices are predicted
        threads = files.enter_context(ThreadPoolExecutor(len(write)))
        pending: list[Future[None]] = []
        maps: list[np.ndarray] = []
        for probs in predictor.restored(slices, spacing_mm):
            parts = {name: probs[:, labels[name]] for name in write if name != LABELS}
            parts[LABELS] = most_probable(probs, len(labels))
            ready = {name: part.cpu().numpy() for name, part in parts.items()}
            if kept:
                maps.append(ready.pop(LABELS))  # what is largest is known when the whole volume is
            else:
                counts.add(ready[LABELS])
            # one batch waits at most: memory stays bounded where the disk is slower than the network
            for one in pending:
                one.result()
            pending = [threads.submit(write[name], part) for name, part in ready.items()]
        for one in pending:
            one.result()
        if kept:
            largest = largest_components(np.concatenate(maps), kept)
            counts.add(largest)
            write[LABELS](largest)


def _files(images: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The volumes among files and in folders, and the names of what was passed over there."""
    files: list[Path] = []
    passed_over: list[str] = []
    problems: list[Problem] = []
    for path in images:
        if not path.is_dir():
            files.append(path)
            try:
                volume_io.require_ending(path)
            except VolumeError as error:
                problems += error.problems
            continue
        inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".")]
        volumes_there = [p for p in inside if volume_io.ending(p)]
        others = [p.name for p in inside if p not in volumes_there and p.is_file() and p.suffix.lower() not in BESIDE]
        if not volumes_there:
            held = f", but {few(others)}" if others else ""
            fact = f"the folder {path} holds no volume{held}."
            problems.append(Problem(fact, remedy=f"Volumes end in {', '.join(ENDINGS)}."))
        files += volumes_there
        passed_over += others
    if problems:
        raise VolumeError.of(problems)
    return files, passed_over


def _cases(files: Sequence[Path], channels: int) -> dict[str, list[Path]]:
    """The files of each case, in the order of their channels."""
    cases: dict[str, list[tuple[int, Path]]] = {}
    for path, (case, channel) in zip(files, _numbered([volume_io.stem(path) for path in files], channels), strict=True):
        cases.setdefault(case, []).append((channel, path))
    wrong = []
    for case, members in cases.items():
        in_one = _channels_of_picture(members)
        if in_one == channels or (in_one is None and sorted(c for c, _ in members) == list(range(channels))):
            continue
        held = f"{len(members)} file(s)" if in_one is None else f"a picture of {in_one} channel(s)"
        if len({channel for channel, _ in members}) < len(members):
            named = ", ".join(str(path) for _, path in members)
            fact = f"{case} is named by {len(members)} files: {named}."
            wrong.append(Problem(fact, remedy="Name each scan once, each of its channels in one file."))
            continue
        fact = f"{case} has {held}, the network takes {channels} channel(s)."
        wrong.append(Problem(fact, str(members[0][1].parent), "Name the channels CASE_0000, CASE_0001, …"))
    if wrong:
        raise VolumeError.of(wrong)
    return {case: [path for _, path in sorted(members)] for case, members in cases.items()}


def _channels_of_picture(members: list[tuple[int, Path]]) -> int | None:
    """How many channels the one file of a case holds, where it is a picture that can be read."""
    (number, path), *more = members
    if more or number or volume_io.ending(path) not in PICTURE_ENDINGS or not path.is_file():
        return None
    try:
        return count_channels(path)
    except VolumeError:
        return None  # told when it is read, beside the others


def _numbered(stems: list[str], channels: int) -> Iterator[tuple[str, int]]:
    """Case and channel of each file.

    A number of four digits at the end is a channel, as nnU-Net has it, where the network has that many channels, or
    where the numbers of these files count up from 0000; else it belongs to the name: ``scan_2019`` is a case.
    """
    matches = [re.fullmatch(r"(.+)_(\d{4})", stem) for stem in stems]
    numbers: dict[str, list[int]] = {}
    for match in matches:
        if match:
            numbers.setdefault(match[1], []).append(int(match[2]))
    for stem, match in zip(stems, matches, strict=True):
        if match:
            found = set(numbers[match[1]])
            if int(match[2]) < channels or found == set(range(len(found))):
                yield match[1], int(match[2])
                continue
        yield stem, 0


def _require_pictures(cases: Mapping[str, list[Path]]) -> None:
    problems = [
        Problem(f"{path} is no picture, and says its own spacing.", remedy="Leave out --spacing, or predict it apart.")
        for paths in cases.values()
        for path in paths
        if volume_io.ending(path) not in PICTURE_ENDINGS
    ]
    if problems:
        raise VolumeError.of(problems)


def _require_free(cases: Mapping[str, list[Path]], targets: Mapping[str, Mapping[str, Path]], overwrite: bool) -> None:
    """Raises VolumeError where images would be replaced, or files that exist; it lists all of them."""
    sources = {source.resolve() for paths in cases.values() for source in paths}
    problems = []
    for path in (path for of_case in targets.values() for path in of_case.values()):
        if path.resolve() in sources:
            problems.append(Problem(f"{path} would replace its own image.", remedy="Choose another --out."))
        elif path.exists() and not overwrite:
            problems.append(Problem(f"{path} exists.", remedy="Choose another --out, or give --overwrite."))
    if problems:
        raise VolumeError.of(problems)
