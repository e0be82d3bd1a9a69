"""Volumes in, label maps out, each on its own grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boundseg.data import volume_io
from boundseg.data.dataset import read_channels
from boundseg.data.volume_io import ENDINGS
from boundseg.errors import InputError, Problem, VolumeError
from boundseg.inference import label_map
from boundseg.inference_3d import VolumePredictor
from boundseg.training.run import Run, Which


@dataclass
class Predicted:
    """What was written, and what the reader should know."""

    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict(
    run: Run,
    images: Iterable[Path],
    out: Path,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    which: Which = "best",
    device: str = "cpu",
    report: Callable[[str], None] = lambda case: None,
) -> Predicted:
    """Predicts volumes; ``CASE.nii.gz`` has the affine, shape and orientation of its input, unsigned bytes.

    Args:
        run: A finished or running training.
        images: Files, or folders of files. Several channels of a case are ``CASE_0000``, ``CASE_0001``, …
        out: Where the label maps go.
        probabilities: Also write ``CASE_probability_CLASS``, float32, for every class but the background.
        overwrite: Replace files that exist.
        which: ``best`` or ``last`` weights.
        device: Where to compute.
        report: Told of each case.

    Raises:
        InputError: Volumes that cannot be read or do not fit; the others have been predicted by then.
    """
    channels = len(run.environment["channels"])
    cases = _cases(images, channels)
    predictor = run.volume_predictor(which, device) if run.is_3d else run.predictor(which, device)
    done, problems = Predicted(), list[Problem]()
    for case, paths in cases.items():
        ending = volume_io.ending(paths[0]) or ""
        targets = {name: out / f"{case}_probability_{name}{ending}" for name in run.labels if run.labels[name]}
        label_path = out / f"{case}{ending}"
        try:
            _require_free([label_path, *(targets.values() if probabilities else ())], paths, overwrite)
            array, volume = read_channels(paths)
            axis = int(run.environment["slice_axis"])
            slices = np.moveaxis(array, axis + 1, 1)
            rows_mm, columns_mm = (s for i, s in enumerate(volume.spacing_mm) if i != axis)
            _, count, rows, columns = slices.shape
            if isinstance(predictor, VolumePredictor):
                sides = (rows_mm, columns_mm, volume.spacing_mm[axis])
                probs, cut = predictor(slices, sides), predictor.cuts((rows, columns, count), sides)
            else:
                probs = predictor(slices, (rows_mm, columns_mm))
                cut = predictor.cuts((rows, columns), (rows_mm, columns_mm))
            labels = label_map(probs, len(run.labels))
            if probabilities:
                for name, path in targets.items():
                    volume_io.write(path, np.ascontiguousarray(np.moveaxis(probs[run.labels[name]], 0, axis)), volume)
            volume_io.write(label_path, np.ascontiguousarray(np.moveaxis(labels, 0, axis)), volume)
        except InputError as error:
            problems += error.problems
            continue
        done.written.append(label_path)
        if cut:
            done.notes.append(f"{case}: {cut}")
        report(case)
    if problems:
        raise InputError.of(problems)
    return done


def _cases(images: Iterable[Path], channels: int) -> dict[str, list[Path]]:
    """The files of each case; a number at the end of the name is the channel, as nnU-Net has it."""
    files = []
    for path in images:
        inside = [p for p in sorted(path.iterdir()) if volume_io.ending(p)] if path.is_dir() else [path]
        if not inside:
            raise VolumeError(f"the folder {path} holds no volume.", remedy=f"Volumes end in {', '.join(ENDINGS)}.")
        files += [p for p in inside if not p.name.startswith(".")]
    cases: dict[str, list[Path]] = {}
    for path in files:
        numbered = re.fullmatch(r"(.+)_\d{4}", volume_io.stem(path))
        cases.setdefault(numbered[1] if numbered else volume_io.stem(path), []).append(path)
    wrong = [
        Problem(
            f"{case} has {len(paths)} file(s), the network takes {channels} channel(s).",
            str(paths[0].parent),
            "Name the channels CASE_0000, CASE_0001, …",
        )
        for case, paths in cases.items()
        if len(paths) != channels
    ]
    if wrong:
        raise VolumeError.of(wrong)
    return {case: sorted(paths) for case, paths in cases.items()}


def _require_free(targets: Iterable[Path], sources: list[Path], overwrite: bool) -> None:
    for path in targets:
        if path.resolve() in [source.resolve() for source in sources]:
            raise VolumeError(f"{path} would replace its own image.", remedy="Choose another --out.")
        if path.exists() and not overwrite:
            raise VolumeError(f"{path} exists.", remedy="Choose another --out, or give --overwrite.")
