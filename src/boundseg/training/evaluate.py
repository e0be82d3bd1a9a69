"""A trained network judged on cases with full masks: measures, sizes, and the bounds it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from boundseg.asked.demands import Boxes, Demand
from boundseg.constraints import Frame
from boundseg.data import atomic, volume_io
from boundseg.data.batches import affine_of_slice, with_bands
from boundseg.data.dataset import Dataset
from boundseg.data.patches import CORNER, file_slices, frame_of_patches, grid_of
from boundseg.data.prepare import Placement, PreparedCase
from boundseg.data.taught import TaughtCase
from boundseg.errors import DatasetError, InputError, Problem, RunError
from boundseg.evaluation.metrics import Empty, Row, slice_rows, volume_rows
from boundseg.evaluation.tables import Evaluation
from boundseg.inference import Predictor, VolumePredictor, label_map
from boundseg.training.kept import kept
from boundseg.training.run import Run, Which
from boundseg.training.supervision import demands_of_entries
from boundseg.training.together import in_words


def evaluate(
    run: Run,
    cases: str = "test",
    *,
    dataset: Dataset | None = None,
    which: Which = "best",
    device: str = "cpu",
    empty: Empty = "nan",
    report: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Predicts cases and measures the predictions; writes ``predictions/`` and ``evaluation/`` into the run.

    The bounds are those of the last entry of the run's ``supervision`` (the one that speaks of the most weakly
    taught cases), looked up for the evaluated cases. Soft values are measured on the probabilities, hard ones on
    their argmax, both on the prepared grid.

    Args:
        run: A finished or running training.
        cases: A list, patient or case of the dataset, with full masks.
        dataset: Another dataset folder than that of the training; its bounds are not asked.
        which: ``best`` or ``last`` weights.
        device: Where to compute.
        empty: The DSC where reference and prediction are both empty, see :func:`boundseg.evaluation.metrics.dice`.
        report: Told of each case.

    Raises:
        InputError: Cases that are nowhere or have no full mask, a run without a checkpoint, a dataset whose classes or
            channels are others than those of the training, a case that would become too large
            (:func:`boundseg.data.enlarged.require_size`).
    """
    own = dataset is None
    dataset = dataset or Dataset.open(run.config.data.folder)
    _require_same_names(run, dataset)
    names = dataset.cases_of(cases)
    _require_masks(dataset, names)
    entries, boxes = demands_of_entries(run.config, dataset) if own else ([[]], [])
    epoch = run.checkpoint(which).state["epoch"]
    predictor = run.predictor(which, device)
    volumes: list[Row] = []
    slices: list[Row] = []
    bounds: list[Row] = []
    for case in names:
        read = dataset.read_image(case)
        _require_size(run, dataset, case, *read)
        about_it = (read, dataset, case, entries[-1], boxes, run.folder / "predictions", empty)
        found = (
            _judge_volume(predictor, *about_it)
            if isinstance(predictor, VolumePredictor)
            else _judge(predictor, *about_it)
        )
        for rows, more in zip((volumes, slices, bounds), found, strict=True):
            rows.extend(more)
        report(case)
    about = {
        "cases": cases,
        "dataset": str(dataset.folder.resolve()),
        "weights": which,
        "epoch": epoch,
        "empty": empty,
    }
    evaluation = Evaluation(pd.DataFrame(volumes), pd.DataFrame(slices), pd.DataFrame(bounds), about)
    for name, text in evaluation.texts().items():
        atomic.write_text(run.folder / "evaluation" / name, text)
    return evaluation


def compare(
    predictions: Path,
    dataset: Dataset,
    cases: str = "test",
    *,
    empty: Empty = "nan",
    report: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Measures label maps that lie in a folder as ``CASE.nii.gz``, whoever made them.

    Raises:
        InputError: Cases without a full mask, label maps that are missing, unreadable or on another grid; all of
            them are listed.
    """
    names = dataset.cases_of(cases)
    _require_masks(dataset, names)
    paths = {case: predictions / f"{case}{dataset.file_ending}" for case in names}
    _require_label_maps(paths.values(), predictions)
    volumes: list[Row] = []
    slices: list[Row] = []
    problems: list[Problem] = []
    for case, path in paths.items():
        try:
            _, image = dataset.read_image(case)
            target = dataset.to_slices(dataset.read_labels(case, "full", image))
            prediction = dataset.to_slices(dataset.read_label_file(path, image))
        except InputError as error:
            problems += error.problems
            continue
        of_volume, of_slices = _measure(dataset, case, prediction, target, image, empty)
        volumes += of_volume
        slices += of_slices
        report(case)
    if problems:
        raise DatasetError.of(problems)
    about = {"cases": cases, "dataset": str(dataset.folder.resolve()), "empty": empty}
    return Evaluation(pd.DataFrame(volumes), pd.DataFrame(slices), pd.DataFrame(), about)


def _judge(
    predictor: Predictor,
    read: tuple[Float[np.ndarray, "C X Y Z"], volume_io.Volume],
    dataset: Dataset,
    case: str,
    asked: Sequence[Demand],
    boxes: Sequence[Boxes],
    folder: Path,
    empty: Empty,
) -> tuple[list[Row], list[Row], list[Row]]:
    array, image = read
    target = dataset.to_slices(dataset.read_labels(case, "full", image))
    spacing = dataset.slice_spacing_mm(image)
    placement = predictor.place((target.shape[1], target.shape[2]), spacing[:2])
    on_file, reads_image = dataset.to_slices(array), any(demand.reads_image for demand in asked)
    restored, soft_px, done = [], [], 0
    sums: list[list[tuple[Tensor, Tensor]]] = []
    for probs in predictor.on_grid(on_file, placement):
        probs = probs.cpu()
        here = range(done, done + len(probs))
        frame = _frame(placement, spacing, here, on_file if reads_image else None)
        frame = with_bands(frame, placement.size, [(b.lines(case, len(target))[here], b.width) for b in boxes])
        done += len(probs)
        probs = probs.double()  # sums about the case's corner: float32 would lose the digits of spreads
        hard = F.one_hot(probs.argmax(1), probs.shape[1]).movedim(-1, 1).double()
        sums.append([(d.constraint.sums(probs, frame), d.constraint.sums(hard, frame)) for d in asked])
        soft_px.append((probs * frame.weight.unsqueeze(1)).sum((2, 3)))
        restored.append(label_map(placement.restore(probs.numpy().swapaxes(0, 1)), len(dataset.labels)))
    prediction = np.concatenate(restored)
    label_volume = np.ascontiguousarray(dataset.from_slices(prediction))
    volume_io.write(folder / f"{case}{dataset.file_ending}", label_volume, image)
    volumes, slices = _measure(dataset, case, prediction, target, image, empty)
    soft = torch.cat(soft_px).numpy()
    for row in volumes:
        row["soft_px"] = float(soft[:, dataset.labels[str(row["class"])]].sum())
    for row in slices:
        row["soft_px"] = float(soft[int(row["slice"]), dataset.labels[str(row["class"])]])
    whole = with_bands(
        _frame(placement, spacing, range(len(target))),
        placement.size,
        [(b.lines(case, len(target)), b.width) for b in boxes],
    )
    rows = [
        row
        for i, demand in enumerate(asked)
        for row in kept(
            demand,
            case,
            len(target),
            range(len(target)),
            torch.cat([chunk[i][0] for chunk in sums]),
            torch.cat([chunk[i][1] for chunk in sums]),
            whole,
            int(np.prod(placement.size)),
        )
    ]
    return volumes, slices, rows


def _judge_volume(
    predictor: VolumePredictor,
    read: tuple[Float[np.ndarray, "C X Y Z"], volume_io.Volume],
    dataset: Dataset,
    case: str,
    asked: Sequence[Demand],
    boxes: Sequence[Boxes],
    folder: Path,
    empty: Empty,
) -> tuple[list[Row], list[Row], list[Row]]:
    """The same by a 3D network; slices have soft sizes where the grid has the file's slices."""
    array, image = read
    target, on_file = dataset.to_slices(dataset.read_labels(case, "full", image)), dataset.to_slices(array)
    (count, rows, columns), spacing = target.shape, dataset.slice_spacing_mm(image)
    placement = predictor.place((rows, columns, count), spacing)
    probs = predictor.on_grid(on_file, placement).cpu()
    prediction = np.moveaxis(label_map(placement.restore(probs[0].numpy()), len(dataset.labels)), -1, 0)
    label_volume = np.ascontiguousarray(dataset.from_slices(prediction))
    volume_io.write(folder / f"{case}{dataset.file_ending}", label_volume, image)
    volumes, slices = _measure(dataset, case, prediction, target, image, empty)
    seen, numbers = _as_taught(case, placement, spacing, on_file, asked, boxes, len(dataset.labels))
    frame = frame_of_patches([seen], [CORNER], grid_of(seen))
    probs = probs.double()
    mass = (probs * frame.weight.unsqueeze(1)).sum((2, 3))[0]
    of_slice = dict(zip(numbers, mass[:, frame.slices.position if frame.slices else []].T, strict=True))
    for row in volumes:
        row["soft_px"] = float(mass[dataset.labels[str(row["class"])]].sum())
    for row in slices:
        soft = of_slice.get(int(row["slice"]))
        row["soft_px"] = math.nan if soft is None else float(soft[dataset.labels[str(row["class"])]])
    hard = F.one_hot(probs.argmax(1), probs.shape[1]).movedim(-1, 1).double()
    found = []
    for demand in asked:
        constraint, space = demand.constraint, placement.size
        own, pixels = (frame.of_slices(), space[:2]) if constraint.scope == "slice" else (frame, space)
        sums = constraint.sums(probs, frame), constraint.sums(hard, frame)
        found += kept(demand, case, count, numbers, *sums, own, int(np.prod(pixels)))
    return volumes, slices, found


def _as_taught(
    case: str,
    placement: Placement,
    spacing_mm: tuple[float, float, float],
    image: Float[np.ndarray, "C S H W"],
    asked: Sequence[Demand],
    boxes: Sequence[Boxes],
    classes: int,
) -> tuple[TaughtCase, range]:
    """A volume in the file's own intensities, as training sees one; and which slices of the file it holds."""
    volume, count = np.moveaxis(image, 1, -1), image.shape[1]
    placed = np.stack([placement.place_image(c, float(c.min())) for c in volume.astype(np.float32)])[None]
    prepared = PreparedCase(case, placement, spacing_mm, placed, ((0.0, 1.0),) * len(image), {})
    lines = tuple((b.lines(case, count), b.width) for b in boxes)
    seen = TaughtCase(
        prepared,
        np.zeros((1, *placement.size), np.uint8),
        {},
        (True,) * classes,
        any(demand.reads_image for demand in asked),
        lines,
    )
    return seen, file_slices(placement, 0, placement.size[-1])


def _measure(
    dataset: Dataset, case: str, prediction: np.ndarray, target: np.ndarray, image: volume_io.Volume, empty: Empty
) -> tuple[list[Row], list[Row]]:
    patient, classes, spacing_mm = dataset.splits.patient_of(case), dataset.classes, dataset.slice_spacing_mm(image)
    return (
        volume_rows(case, patient, prediction, target, classes, spacing_mm, dataset.ignore, empty),
        slice_rows(case, patient, prediction, target, classes, spacing_mm, dataset.ignore, empty),
    )


def _frame(
    placement: Placement,
    spacing_mm: tuple[float, float, float],
    slices: range,
    image: Float[np.ndarray, "C S H W"] | None = None,
) -> Frame:
    weight = torch.from_numpy(placement.weight()).expand(len(slices), -1, -1)
    on_grid = (
        None
        if image is None
        else np.stack([placement.place_image(c[slices], float(c.min())) for c in image.astype(np.float32)], axis=1)
    )
    return Frame(
        weight,
        torch.tensor(spacing_mm).expand(len(slices), 3),
        affine=torch.stack([affine_of_slice(placement, s) for s in slices]),
        image=None if on_grid is None else torch.from_numpy(on_grid),
    )


def _require_size(run: Run, dataset: Dataset, case: str, array: np.ndarray, image: volume_io.Volume) -> None:
    shape = dataset.to_slices(array).shape[1:]
    run.require_size(case, dataset.image_paths(case)[0], shape, dataset.slice_spacing_mm(image))


def _require_same_names(run: Run, dataset: Dataset) -> None:
    """A network knows classes and channels by their numbers: under other names it would be judged as another one."""
    trained: dict[str, object] = {"classes": run.labels, "channels": run.environment["channels"]}
    there: dict[str, object] = {"classes": dataset.labels, "channels": list(dataset.channels)}
    problems = [
        Problem(
            f"{run.folder} was trained on the {what} {in_words(trained[what])}, and {dataset.folder} has "
            f"{in_words(there[what])}.",
            str(dataset.folder / "dataset.json"),
            "Give the dataset the names and numbers of the training, or evaluate another one.",
        )
        for what in trained
        if trained[what] != there[what]
    ]
    if problems:
        raise RunError.of(problems)


def _require_label_maps(paths: Collection[Path], folder: Path) -> None:
    missing = [path.name for path in paths if not path.is_file()]
    if not missing:
        return
    found = sorted(p.name for p in folder.iterdir() if volume_io.ending(p)) if folder.is_dir() else []
    more = " …" if len(missing) > 5 else ""
    there = f"The folder holds {', '.join(found[:3])}{' …' if len(found) > 3 else ''}." if found else "It holds none."
    raise DatasetError(
        f"{len(missing)} of {len(paths)} label maps are not there: {', '.join(missing[:5])}{more}",
        str(folder),
        f"{there} Name them CASE and the dataset's file ending, predict them, or evaluate other cases.",
    )


_NOBODY = "Name who tests in splits.json, in a split.csv before converting, or cases that have a full mask."
_UNMASKED = "Evaluate other cases. Without masks, boundseg predict writes label maps and their volumes (volumes.csv)."


def _require_masks(dataset: Dataset, cases: Sequence[str]) -> None:
    problems = [
        Problem(f"{case} has no full mask.", str(dataset.label_path(case).parent), _UNMASKED)
        for case in cases
        if not dataset.label_path(case).is_file()
    ]
    if problems or not cases:
        raise DatasetError.of(problems or [Problem("there is no case to evaluate.", str(dataset.folder), _NOBODY)])
