"""The whole training loop against the bare network's forward, backward and step, in images a second.

python benchmarks/training_loop.py ACDC_LV [--batch 1] [--rounds 6] [--cases 4] [--size 256] [--device cpu] [--compile]

ACDC_LV is a dataset folder with the label set `erosion` and the bounds `individual` (docs/results/acdc-lv.md says how
it is made). An epoch of the loop and as many bare steps take turns, in one process, with the same network, precision,
layout and compilation; the bare steps get one batch that is on the device already, and a gradient in place of a loss.
The first round warms up and is not counted. Validation is on one patient.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from boundseg.data.dataset import Dataset
from boundseg.networks import build
from boundseg.training import loop
from boundseg.training.config import Config
from boundseg.training.engine import make_ready
from boundseg.training.processes import Processes, start
from boundseg.training.supervision import teach


@dataclass
class Bare:
    """Bare steps, taken after each epoch of the loop; how many images a second they were."""

    config: Config
    device: torch.device
    rates: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        dataset = Dataset.open(config.data.folder)
        network = build(config.network.name, len(dataset.channels), len(dataset.labels))
        processes = Processes(start(self.device.type, 1, 1, config.training))
        teaching = teach(config, dataset)
        self.images = sum(map(len, teaching.train))
        self.engine = make_ready(config, dataset, teaching, network, processes)
        batch = config.training.batch_size
        sizes = [batch] * (self.images // batch) + [self.images % batch] * (self.images % batch > 0)
        self.batches = {
            size: (
                torch.randn(size, len(dataset.channels), *config.data.size, device=self.device),
                torch.randn(size, len(dataset.labels), *config.data.size, device=self.device),
            )
            for size in set(sizes)
        }
        self.sizes = sizes

    def validate(self, *arguments: Any, original: Any) -> Any:
        """What the loop calls at an epoch's end."""
        started = self._now()
        found = original(*arguments)
        self.validation.append(self._now() - started)
        self.engine.model.train()
        started = self._now()
        for size in self.sizes:
            images, gradient = self.batches[size]
            logits = self.engine.logits(images)
            self.engine.optimizer.zero_grad(set_to_none=True)
            logits.backward(gradient)
            self.engine.optimizer.step()
        self.rates.append(self.images / (self._now() - started))
        return found

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--network", default="enet")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = Dataset.open(arguments.folder)
    bounds = {"size": {"class": "LV", "set": "individual"}}
    config = Config.parse(
        {
            "data": {"folder": str(arguments.folder), "size": [arguments.size] * 2, "fit": "resize"},
            "network": {"name": arguments.network},
            "supervision": [
                {
                    "cases": dataset.cases_of("train")[: arguments.cases],
                    "labels": "erosion",
                    "constraints": [bounds],
                }
            ],
            "training": {
                "epochs": arguments.rounds + 1,
                "batch_size": arguments.batch,
                "augment": ["mirror", "transpose"],
                "precision": arguments.precision,
                "compile": arguments.compile,
            },
            "selection": {"cases": dataset.cases_of("validation")[0]},
        }
    )
    print(f"torch {torch.__version__}, {vars(arguments) | {'folder': arguments.folder.name}}")
    bare = Bare(config, torch.device(arguments.device))
    original = loop.validate
    loop.validate = lambda *given: bare.validate(*given, original=original)
    with TemporaryDirectory() as folder:
        rows = loop.train(config, Path(folder) / "run", device=arguments.device, quiet=True).metrics()[1:]
    whole, alone = [row["images_per_second"] for row in rows], bare.rates[1:]
    ratios = [a / b for a, b in zip(whole, alone, strict=True)]
    print(f"{bare.images} images an epoch in {len(bare.sizes)} steps, {len(rows)} rounds")
    print(f"whole loop {median(whole):.2f} images/s, bare network {median(alone):.2f} images/s")
    print(f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    phases = [name for name in rows[0] if name.startswith("seconds: ") and name != "seconds: validation"]
    seconds = {name.removeprefix("seconds: "): median(row[name] for row in rows) for name in phases}
    seconds["validation"] = median(bare.validation[1:])
    total = sum(seconds.values())
    print(", ".join(f"{name} {value:.2f} s ({value / total:.1%})" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
