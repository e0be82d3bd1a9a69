"""The same patients, labels, bounds and minutes for nnU-Net's partial loss, nnU-Net with bounds, and ENet.

python benchmarks/peers.py ACDC_LV [--out peers] [--minutes 8] [--labels erosion --labels scribble] [--row ROW]
                           [--device cuda]

ACDC_LV is a dataset folder: `boundseg convert acdc ACDC/training ACDC_LV --target LV`. Seeds (eroded masks) and bounds
(each slice's size to 10 %, an oracle) are derived from its masks if they are not there yet; the human scribbles came
with it. Every network gets the same pixels of 3 mm in patches of 144 x 144, batches of 8 slices, and `--minutes`: of
processor time on one thread, or of a GPU's clock. Some steps are timed first, and the schedules are as long as the
minutes allow. nnU-Net plans as it does, but for that grid and, on a CPU, for a network of half the width and five
stages. All label maps are judged on the file's grid by the same code. Finished rows are not trained again. Prints the
table; writes peers.csv and peers.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import yaml

from boundseg.data import atomic, derive, priors
from boundseg.data.convert.nnunet import convert_nnunet, write_splits_final
from boundseg.data.dataset import Dataset
from boundseg.data.label_sets import write_label_set
from boundseg.evaluation.tables import Evaluation, markdown, paired_tests
from boundseg.integrations.nnunet import entry, judged
from boundseg.networks import build
from boundseg.training.config import Config
from boundseg.training.evaluate import compare
from boundseg.training.evaluate import evaluate as evaluate_run
from boundseg.training.loop import train
from boundseg.training.run import Run

TARGET = "LV"
SIZE, SPACING_MM, BATCH = (144, 144), (3.0, 3.0), 8
EPOCHS, VALIDATION_STEPS, TIMED_STEPS = 20, 3, 12  # of nnU-Net
STAGES = 5  # of its network on a CPU
BOUNDS = {"class": TARGET, "set": "individual"}
OF_NNUNET = BOUNDS | {"penalty": "log_hinge", "weight": 0.1}
OF_ENET = BOUNDS | {"weight": 0.05}
DATASETS = {"erosion": "Dataset101_EROSION", "scribble": "Dataset102_SCRIBBLE"}
KINDS = {
    "nnunet": "nnU-Net, partial loss",
    "nnunet_bounds": "nnU-Net with bounds",
    "enet": "ENet, partial cross-entropy",
    "enet_bounds": "ENet with bounds",
}


@dataclass(frozen=True)
class Machine:
    """What computes, and the clock that its minutes are of.

    On a CPU it is the processor's own, so that what runs beside costs little; of a GPU the wall's.
    """

    device: torch.device

    def seconds(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class Cost:
    """What a training took.

    Attributes:
        minutes: Of the processor, or of the clock where a GPU computes, for its epochs, validation included.
        steps: Of the optimiser.
        slices: Shown, one counted as often as it was shown.
        parameters: Of the network.
    """

    minutes: float
    steps: int
    slices: int
    parameters: int


def prepare(dataset: Dataset, out: Path, sets: Sequence[str], machine: Machine) -> None:
    """Seeds and bounds of the dataset, and a folder of nnU-Net's for each label set, planned and preprocessed."""
    if "erosion" in sets and "erosion" not in dataset.label_sets:
        write_label_set(dataset, dataset.training_cases, "erosion", "erosion")
    known = dataset.folder / "priors.csv"
    rows = priors.read(known) if known.is_file() else []
    if "individual" not in {row.set for row in rows}:
        sizes = derive.individual(dataset, [*dataset.training_cases, *dataset.cases_of("test")], [TARGET])
        priors.write(known, priors.merge(rows, sizes))
    for labels in sets:
        raw = out / "raw" / DATASETS[labels]
        if not raw.is_dir():
            written = convert_nnunet(dataset, raw, labels)
            write_splits_final(
                out / "preprocessed" / raw.name / "splits_final.json", [(written.train, written.held_out)]
            )
        if not (out / "preprocessed" / raw.name / "nnUNetPlans_2d").is_dir():
            plan(raw.name, out, machine)


def plan(name: str, out: Path, machine: Machine) -> None:
    """nnU-Net's own plan, on the grid of this comparison and, on a CPU, with a smaller network."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    number = int(name[7:10])
    extract_fingerprints([number], num_processes=1, verbose=False)
    plan_experiments([number])
    path = out / "preprocessed" / name / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    ours = plans["configurations"]["2d"]
    ours |= {"patch_size": list(SIZE), "spacing": list(SPACING_MM), "batch_size": BATCH}
    network = ours["architecture"]["arch_kwargs"]
    had = network["n_stages"]
    if machine.device.type == "cpu" and had > STAGES:
        for key, value in network.items():
            if isinstance(value, list) and len(value) in (had, had - 1):
                network[key] = value[: STAGES if len(value) == had else STAGES - 1]
        network |= {"n_stages": STAGES, "features_per_stage": [width // 2 for width in network["features_per_stage"]]}
    path.write_text(json.dumps(plans, indent=1))
    preprocess([number], configurations=["2d"], num_processes=[1])


def train_nnunet(out: Path, labels: str, bounds: bool, minutes: float, machine: Machine) -> Cost:
    """Trains fold 0 and predicts the test cases into the row's folder."""
    name = DATASETS[labels]
    row = f"nnunet_bounds_{labels}" if bounds else f"nnunet_{labels}"
    asked = {"constraints": [{"size": OF_NNUNET}] if bounds else []}
    short = asked | {"epochs": 2, "iterations": TIMED_STEPS, "validation_iterations": 1}
    _, timed = trained(out, name, f"{row}_timed", short, machine)
    step = timed[-1] / (TIMED_STEPS + 1 / 3)  # a step of validation has no backward
    steps = max(1, round(60 * minutes / step / EPOCHS - VALIDATION_STEPS / 3))
    schedule = {"epochs": EPOCHS, "iterations": steps, "validation_iterations": VALIDATION_STEPS}
    training, seconds = trained(out, name, row, asked | schedule, machine)
    entry.predict(
        [
            *("-i", str(out / "raw" / name / "imagesTs"), "-o", str(out / row / "predictions"), "-d", name[7:10]),
            *("-c", "2d", "-f", "0", "-tr", f"nnUNetTrainerBoundseg_{row}", "-device", machine.device.type),
            *("-npp", "0", "-nps", "0", "--disable_tta"),
        ]
    )
    parameters = sum(p.numel() for p in training.network.parameters())
    return Cost(sum(seconds) / 60, EPOCHS * steps, EPOCHS * steps * BATCH, parameters)


def trained(out: Path, name: str, suffix: str, asked: dict[str, Any], machine: Machine) -> tuple[Any, list[float]]:
    """A trainer of nnU-Net's, made and run as ``nnUNetv2_train`` does, and its epochs' seconds."""
    from boundseg.integrations.nnunet.trainer import named

    (out / "raw" / name / f"boundseg_{suffix}.yaml").write_text(yaml.safe_dump(asked))
    folder = out / "preprocessed" / name
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((folder / "dataset.json").read_text())
    torch.manual_seed(0)
    training: Any = named(f"nnUNetTrainerBoundseg_{suffix}")(plans, "2d", 0, description, machine.device)
    stamps: list[float] = []

    def stamped(own: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            own()
            stamps.append(machine.seconds())

        return run

    training.on_train_start = stamped(training.on_train_start)
    training.on_epoch_end = stamped(training.on_epoch_end)
    training.run_training()
    return training, [after - before for before, after in pairwise(stamps)]


def train_enet(dataset: Dataset, out: Path, labels: str, bounds: bool, minutes: float, machine: Machine) -> Cost:
    """Trains, and predicts the test cases into the row's folder."""
    row = f"enet_bounds_{labels}" if bounds else f"enet_{labels}"
    content: dict[str, Any] = {
        "data": {
            "folder": str(dataset.folder.resolve()),
            "size": list(SIZE),
            "spacing_mm": list(SPACING_MM),
            "fit": "crop",
            "complete": {TARGET: 0.05},
            "batch": "slices",
        },
        "network": {"name": "enet"},
        "supervision": [{"cases": "train", "labels": labels, "constraints": [{"size": OF_ENET}] if bounds else []}],
        "training": {
            "epochs": 1,
            "batch_size": BATCH,
            "optimizer": {"lr": 1.0e-3},
            "schedule": {"name": "cosine"},
            "augment": ["mirror", "transpose"],
        },
        "selection": {"by": "last"},
    }
    _, seconds = clocked(content, out / f"{row}_timed", machine)
    content["training"] |= {"epochs": max(1, round(60 * minutes / seconds))}
    run, seconds = clocked(content, out / row, machine)
    evaluate_run(run, "test", device=machine.device.type)
    shown = pd.read_csv(out / row / "metrics.csv")
    slices = round(((shown["seconds"] - shown["seconds: validation"]) * shown["images_per_second"]).sum())
    parameters = sum(p.numel() for p in build("enet", len(dataset.channels), len(dataset.labels)).parameters())
    return Cost(seconds / 60, slices // BATCH, slices, parameters)


def clocked(content: dict[str, Any], folder: Path, machine: Machine) -> tuple[Run, float]:
    """A training of ours, and its seconds once all cases are prepared."""
    begun: list[float] = []
    ready = lambda: begun.append(machine.seconds())  # noqa: E731
    run = train(Config.parse(content), folder, device=machine.device.type, quiet=True, prepared=ready)
    return run, machine.seconds() - begun[0]


def table(dataset: Dataset, out: Path, rows: Sequence[tuple[str, str]]) -> str:
    """Markdown, and ``peers.csv`` beside it."""
    found: dict[str, Evaluation] = {}
    lines = []
    for kind, labels in rows:
        row = f"{kind}_{labels}"
        if not (out / row / "cost.json").is_file():
            continue
        cost = Cost(**json.loads((out / row / "cost.json").read_text()))
        found[row] = compare(out / row / "predictions", dataset, "test")
        (of_row,) = found[row].summary()
        folder = out / "raw" / DATASETS[labels]
        (folder / "boundseg_judge.yaml").write_text(yaml.safe_dump({"constraints": [{"size": BOUNDS}]}))
        ((known, kept, missed),) = judged.summary(
            judged.judge_folder(out / row / "predictions", folder, "judge")
        ).values()
        lines.append(
            {"labels": labels, "": KINDS[kind]}
            | {key: of_row[key] for key in ("DSC (volumes)", "HD95 [mm]", "sensitivity", "precision")}
            | {
                "bounds kept": f"{kept / known:.1%} of {known}",
                "missed by, mean [px]": f"{missed:.0f}",
                "minutes": f"{cost.minutes:.1f}",
                "slices shown": f"{cost.slices}",
                "parameters": f"{cost.parameters}",
            }
        )
    with (out / "peers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    text = markdown(lines)
    for labels in dict.fromkeys(labels for _, labels in rows):
        same = {row: of_row for row, of_row in found.items() if row.endswith(labels)}
        if len(same) > 1:
            text += "\n" + markdown(paired_tests(same))
    return text


def draw(dataset: Dataset, out: Path, rows: Sequence[tuple[str, str]], shown: int = 3) -> None:
    """``peers.png``: the middle slice of some test cases, as each row labels it, and the reference."""
    cases = dataset.cases_of("test")
    cases = cases[len(cases) // (2 * shown) :: len(cases) // shown][:shown]
    done = [row for row in rows if (out / "_".join(row) / "cost.json").is_file()]
    figure, axes = plt.subplots(
        shown, len(done) + 2, figsize=(1.5 * (len(done) + 2), 1.25 * shown + 0.5), squeeze=False
    )
    for panels, case in zip(axes, cases, strict=True):
        image, volume = dataset.read_image(case)
        slices = dataset.to_slices(image)[0]
        middle = len(slices) // 2
        maps: dict[str, np.ndarray | None] = {"image": None}
        for kind, labels in done:
            path = out / f"{kind}_{labels}" / "predictions" / f"{case}{dataset.file_ending}"
            maps[f"{KINDS[kind]}\n({labels})".replace(", ", ",\n")] = dataset.read_label_file(path, volume)
        maps["reference"] = dataset.read_labels(case, "full", volume)
        for panel, (title, label_map) in zip(panels, maps.items(), strict=True):
            panel.imshow(slices[middle], cmap="gray", vmax=np.percentile(slices[middle], 99))
            if label_map is not None:
                mask = dataset.to_slices(label_map)[middle] == dataset.classes[TARGET]
                panel.imshow(np.ma.masked_equal(mask, 0), cmap="autumn", vmin=-1, vmax=1, alpha=0.6)
            panel.set(xticks=[], yticks=[])
            if case == cases[0]:
                panel.set_title(title, fontsize=7)
    figure.tight_layout(pad=0.3)
    figure.savefig(out / "peers.png", dpi=80)


def enter(out: Path) -> None:
    """nnU-Net's variables point below ``out``; it works in this process where it would start others."""
    for variable, name in {"raw": "raw", "preprocessed": "preprocessed", "results": "results"}.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{variable}"] = str(out / name)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("peers"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--labels", action="append", choices=list(DATASETS))
    parser.add_argument("--row", action="append", help="KIND_LABELS, such as nnunet_bounds_erosion; default: all")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    machine = Machine(torch.device(arguments.device))
    entry.require_installed()
    torch.set_num_threads(1)
    dataset, out = Dataset.open(arguments.folder), arguments.out.resolve()
    enter(out)
    sets = arguments.labels or list(DATASETS)
    rows = [(kind, labels) for labels in sets for kind in KINDS]
    prepare(dataset, out, sets, machine)
    # batches are made in this process, too; the planner wants a thread
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112  # nnU-Net spells it so
    for kind, labels in rows:
        row = f"{kind}_{labels}"
        cost_of = out / row / "cost.json"
        if cost_of.is_file() or (arguments.row and row not in arguments.row):
            continue
        print(f"== {row}", flush=True)
        for begun in (out / row, out / f"{row}_timed"):
            shutil.rmtree(begun, ignore_errors=True)
        bounds = "bounds" in kind
        if kind.startswith("nnunet"):
            cost = train_nnunet(out, labels, bounds, arguments.minutes, machine)
        else:
            cost = train_enet(dataset, out, labels, bounds, arguments.minutes, machine)
        atomic.write_text(cost_of, json.dumps(asdict(cost)) + "\n")
    print(table(dataset, out, rows))
    draw(dataset, out, rows)


if __name__ == "__main__":
    main()
