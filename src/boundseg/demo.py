"""The demo: synthetic hearts, weak seeds, four trainings, a table, a picture, a report; every step a real verb's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boundseg.data import dataset as folders
from boundseg.data import derive, phantom, priors, volume_io
from boundseg.data.dataset import Dataset, Splits
from boundseg.data.label_sets import write_label_set
from boundseg.data.volume_io import Volume
from boundseg.data.weaken import erosion
from boundseg.errors import RunError
from boundseg.evaluation.tables import Evaluation, markdown
from boundseg.report.page import report as write_report
from boundseg.report.pictures import Row, draw_slices
from boundseg.training.config import Config
from boundseg.training.evaluate import evaluate
from boundseg.training.loop import train

PATIENTS = {"train": 12, "validation": 3, "test": 6}
QUICK_PATIENTS = {"train": 2, "validation": 1, "test": 1}
EPOCHS, QUICK_EPOCHS = 15, 1
PHANTOM_SEED = 2019  # one fixed set of patients; the seed of a demo moves networks and orders only
MARK = "boundseg-demo"
SHOWN = ("DSC (volumes)", "DSC (slices)", "HD95 [mm]", "volume error [mL]", "soft / hard / true volume")

# what each training is told beside the seeds; every config differs in this alone
SIZE: dict[str, Any] = {"class": "LV", "weight": 0.05}
TRAININGS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "partial CE": ("erosion", []),
    "+ tags": ("erosion", [{"size": SIZE | {"set": "tags"}}]),
    "+ size bounds": ("erosion", [{"size": SIZE | {"set": "individual"}}]),
    "full masks": ("full", []),
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves to look at."""

    rows: list[dict[str, str]]
    picture: Path
    report: Path


def run_demo(
    folder: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Runs the demo into ``folder``; an earlier demo there is replaced.

    Args:
        folder: Gets ``hearts/`` (a dataset folder), ``configs/``, ``runs/``, ``table.md``, ``predictions.png`` and
            ``report.html``.
        quick: A few patients and epochs.
        seed: Of the networks and of the order of slices.
        device: As for :func:`boundseg.train`.
        quiet: Show no progress.
        say: Told what is being done.

    Raises:
        RunError: The folder exists and is not a demo's.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise RunError(f"{folder} exists and is no demo's folder.", remedy="Name another with --out.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("boundseg demo writes this folder anew each time.\n", encoding="utf-8")
    say(f"writing synthetic hearts, seeds and bounds to {folder / 'hearts'}")
    dataset = write_hearts(folder / "hearts", QUICK_PATIENTS if quick else PATIENTS)
    rows, found = [], {}
    for name in TRAININGS:
        path = folder / "configs" / f"{_file_name(name)}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_config(name, dataset, QUICK_EPOCHS if quick else EPOCHS, seed).dump(), encoding="utf-8")
        say(f"training: {name}  ({path})")
        run = train(Config.load(path), folder / "runs" / _file_name(name), device=device, quiet=quiet)
        found[name] = evaluate(run, "test", device="cpu" if device == "auto" else device)
        (summary,) = found[name].summary()
        rows.append({"training": name} | {measure: summary[measure] for measure in SHOWN})
    (folder / "table.md").write_text(markdown(rows), encoding="utf-8")
    picture = folder / "predictions.png"
    draw_hearts(dataset, folder, found["full masks"], picture)
    runs = [folder / "runs" / _file_name(name) for name in TRAININGS]
    return DemoResult(rows, picture, write_report(runs, folder / "report.html"))


def write_hearts(folder: Path, patients: dict[str, int]) -> Dataset:
    """Writes the synthetic hearts as a dataset folder, with seeds, tags and individual bounds.

    Args:
        folder: Where; made if it is not there.
        patients: How many train, are held out and test: ``{"train": 8, "validation": 2, "test": 2}``. Each has two
            volumes.
    """
    names: dict[str, list[str]] = {}
    sides = [split for split, count in patients.items() for _ in range(count)]
    for case, heart in phantom.patients(len(sides), PHANTOM_SEED):
        patient = case.split("_")[0]
        names.setdefault(patient, []).append(case)
        side = "Ts" if sides[len(names) - 1] == "test" else "Tr"
        volume = _volume(heart)
        volume_io.write(folder / f"images{side}" / f"{case}_0000.nii.gz", volume.array, volume)
        target = (heart.target == phantom.LABELS["LV"]).astype(np.uint8)
        volume_io.write(folder / f"labels{side}" / f"{case}.nii.gz", np.moveaxis(target, 0, 2), volume)
    folders.describe(
        folder,
        channels=["cine MR"],
        labels={"background": 0, "LV": 1},
        ignore=2,
        file_ending=".nii.gz",
        training_cases=2 * (patients["train"] + patients["validation"]),
    )
    lists = {split: [p for p, side in zip(names, sides, strict=True) if side == split] for split in patients}
    folders.write_splits(folder, Splits(names, lists))
    dataset = Dataset.open(folder)
    write_label_set(dataset, dataset.training_cases, "erosion", "erosion", classes=["LV"])
    rows = derive.tags(dataset, dataset.training_cases, ["LV"], "erosion", "absent")
    rows += derive.individual(dataset, dataset.cases, ["LV"])
    priors.write(folder / "priors.csv", priors.merge([], rows))
    return dataset


def _volume(heart: phantom.Phantom) -> Volume:
    between, rows, columns = heart.spacing_mm
    image = np.moveaxis(np.rint(heart.image).astype(np.int16), 0, 2)
    return Volume(image, np.diag([rows, columns, between, 1.0]))


def _config(name: str, dataset: Dataset, epochs: int, seed: int) -> Config:
    labels, constraints = TRAININGS[name]
    return Config.parse(
        {
            "data": {"folder": str(dataset.folder.resolve()), "size": [96, 96]},
            "network": {"name": "enet"},
            "supervision": [{"cases": "train", "labels": labels, "constraints": constraints}],
            "training": {
                "epochs": epochs,
                "batch_size": 4,
                "optimizer": {"name": "adam", "lr": 1e-3},
                "schedule": {"name": "cosine"},
            },
            "selection": {"by": "last"},
            "seed": seed,
        }
    )


def draw_hearts(dataset: Dataset, folder: Path, reference: Evaluation, path: Path) -> None:
    """A large, a middle and a small test slice: seeds as training slices have them, predictions, the reference."""
    slices = reference.slices[reference.slices["reference_px"] > 0].sort_values("reference_px", ascending=False)
    rows = []
    for share in (0.1, 0.5, 0.85):
        chosen = slices.iloc[int(share * (len(slices) - 1))]
        case, index = str(chosen["case"]), int(chosen["slice"])
        image, volume = dataset.read_image(case)
        target = dataset.to_slices(dataset.read_labels(case, "full", volume))
        seeds = erosion(target[[index]], classes=list(dataset.classes.values()), ignore=dataset.ignore)[0]
        columns = {"seeds": seeds} | {
            name: dataset.to_slices(
                dataset.read_label_file(folder / "runs" / _file_name(name) / "predictions" / f"{case}.nii.gz", volume)
            )[index]
            for name in TRAININGS
        }
        columns["reference"] = target[index]
        rows.append(Row(f"{case}, slice {index}", dataset.to_slices(image)[0, index], columns))
    draw_slices(rows, dataset.classes, path, dataset.ignore)


def _file_name(name: str) -> str:
    return name.replace("+ ", "").replace(" ", "_").lower()
