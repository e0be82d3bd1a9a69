"""Prediction of whole volumes: against MONAI's inferers, phase by phase, and the memory that it takes.

python benchmarks/inference.py speed ACDC_LV [--size 256 256] [--fit pad] [--spacing 2 2] [--threads 2] [--rounds 3]
                                                [--clock wall] [--every 1]
python benchmarks/inference.py memory [--slices 100 250 500] [--size 128 128] [--fit resize] [--probabilities]

`speed` predicts the test cases of a dataset folder: files in, label maps out. Ours and MONAI's inferers take turns on
every volume, in an order drawn anew, with the same network, preparation, way back and writer; ratios are of the times
of one volume in one round, with 95 % bootstrap intervals of their median over volumes. `memory` predicts a synthetic
volume of 16-bit integers in a process of its own, whose peak resident memory the system counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from boundseg.data import volume_io
from boundseg.data.dataset import Dataset
from boundseg.data.prepare import Grid, Placement
from boundseg.data.stored import read_stored
from boundseg.inference import TILE_OVERLAP, Predictor, most_probable, restore
from boundseg.networks import build
from boundseg.training.config import Config
from boundseg.training.run import Run
from boundseg.training.state import checkpoint

PHASES = ("read", "normalise + place", "network", "restore + argmax", "write")


class Clock:
    """Adds up the seconds of named phases; those of the processor leave out what other programs take."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.seconds = now, dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[name] += self.now() - started


Network = Callable[[np.ndarray, Predictor], Iterator[Tensor]]


def ours(placed: np.ndarray, predictor: Predictor) -> Iterator[Tensor]:
    yield from predictor.probabilities(placed)


def monai_slices(placed: np.ndarray, predictor: Predictor, batch: int = 8) -> Iterator[Tensor]:
    """SliceInferer on ``[1, C, h, w, S]``; windows where the volume is larger than the grid, as ours."""
    from monai.inferers.inferer import SliceInferer

    inferer = SliceInferer(
        roi_size=predictor.grid.size, spatial_dim=2, sw_batch_size=batch, overlap=TILE_OVERLAP, mode="gaussian"
    )
    with torch.inference_mode():
        volume = torch.from_numpy(placed).float().permute(1, 2, 3, 0)[None]
        logits = inferer(volume, predictor.network)
        assert isinstance(logits, Tensor)
        yield logits[0].permute(3, 0, 1, 2).softmax(1)


def monai_windows(placed: np.ndarray, predictor: Predictor, batch: int = 8) -> Iterator[Tensor]:
    """SlidingWindowInferer on the slices as a batch."""
    from monai.inferers.inferer import SlidingWindowInferer

    inferer = SlidingWindowInferer(predictor.grid.size, sw_batch_size=batch, overlap=TILE_OVERLAP, mode="gaussian")
    with torch.inference_mode():
        logits = inferer(torch.from_numpy(placed).float(), predictor.network)
        assert isinstance(logits, Tensor)
        yield logits.softmax(1)


METHODS: dict[str, Network] = {
    "ours": ours,
    "SliceInferer, 8 slices": monai_slices,
    "SlidingWindowInferer, 8 windows": monai_windows,
    "SlidingWindowInferer, 2 windows": lambda placed, predictor: monai_windows(placed, predictor, 2),
}


def predict(
    paths: list[Path], axis: int, predictor: Predictor, network: Network, target: Path, now: Callable[[], float]
) -> dict[str, float]:
    """One volume from file to file, as `boundseg predict` does it, with a clock at every phase."""
    clock = Clock(now)
    with clock.phase("read"):
        slices, volume = read_stored(paths, axis)
    spacing = [s for i, s in enumerate(volume.spacing_mm) if i != axis]
    placement: Placement = predictor.place(slices.shape[1:], (spacing[0], spacing[1]))
    with clock.phase("write"):
        writing = volume_io.writing(target, volume, np.uint8, axis)
        write = writing.__enter__()
    # ours goes on batch by batch; MONAI's inferers take the volume as a whole
    batches = predictor.placed(slices, placement)
    while True:
        with clock.phase("normalise + place"):
            placed = next(batches, None)
            if placed is not None and network is not ours:
                placed = np.concatenate([placed, *batches])
        if placed is None:
            break
        with clock.phase("network"):
            probs = torch.cat(list(network(placed, predictor)))
        with clock.phase("restore + argmax"):
            labels = most_probable(restore(probs, placement)).cpu().numpy()
        with clock.phase("write"):
            write(labels)
    with clock.phase("write"):
        writing.__exit__(None, None, None)
    return clock.seconds


def speed(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dataset = Dataset.open(arguments.dataset)
    cases = dataset.cases_of("test")[:: arguments.every]
    grid = Grid(tuple(arguments.size), arguments.fit, tuple(arguments.spacing) if arguments.spacing else None)
    network = build(arguments.network, len(dataset.channels), len(dataset.labels)).eval()
    predictor = Predictor(network, grid, torch.device("cpu"))
    seconds = np.zeros((arguments.rounds, len(cases), len(METHODS), len(PHASES)))
    rng = np.random.default_rng(0)
    now = time.process_time if arguments.clock == "processor" else time.perf_counter
    with TemporaryDirectory(dir=arguments.out) as folder:
        targets = {name: Path(folder) / f"{i}.nii.gz" for i, name in enumerate(METHODS)}
        for name, method in METHODS.items():  # warms up
            predict(dataset.image_paths(cases[0]), dataset.slice_axis, predictor, method, targets[name], now)
        differ = dict.fromkeys(METHODS, 0)
        for turn in range(arguments.rounds):
            for i, case in enumerate(cases):
                for j in rng.permutation(len(METHODS)):
                    name = list(METHODS)[j]
                    paths = dataset.image_paths(case)
                    taken = predict(paths, dataset.slice_axis, predictor, METHODS[name], targets[name], now)
                    seconds[turn, i, j] = [taken[phase] for phase in PHASES]
                maps = {name: volume_io.read(path).array for name, path in targets.items()}
                for name, found in maps.items():
                    differ[name] += int((found != maps["ours"]).sum())
    whole = seconds.sum(3)
    for j, name in enumerate(METHODS):
        rates = len(cases) / whole[:, :, j].sum(1)
        print(
            f"{name}: {np.median(rates):.2f} volumes/s (rounds {rates.min():.2f} to {rates.max():.2f}), "
            f"voxels that differ from ours: {differ[name]}"
        )
    for j, name in list(enumerate(METHODS))[1:]:
        for what, times in (("file to file", whole), ("network alone", seconds[..., PHASES.index("network")])):
            print(f"ours / {name}, time {what}: {interval(times[:, :, 0] / times[:, :, j])}")
    shares = np.median(seconds.sum(1), axis=0)
    print("seconds of all volumes, median of the rounds:")
    print("| | " + " | ".join(PHASES) + " |")
    print("|---" * (len(PHASES) + 1) + "|")
    for j, name in enumerate(METHODS):
        print(f"| {name} | " + " | ".join(f"{s:.2f}" for s in shares[j]) + " |")


def interval(ratios: np.ndarray) -> str:
    """Median over volumes of their median over rounds, with its bootstrap interval over volumes."""
    of_volumes = np.median(ratios, axis=0)
    drawn = np.median(np.random.default_rng(0).choice(of_volumes, (2000, len(of_volumes))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{np.median(of_volumes):.3f} (95 % {low:.3f} to {high:.3f})"


def memory(arguments: argparse.Namespace) -> None:
    with TemporaryDirectory(dir=arguments.out) as name:
        folder = Path(name)
        labels = {"background": 0, **{f"class{k}": k for k in range(1, arguments.classes + 1)}}
        config = Config.parse(
            {
                "data": {"folder": str(folder), "size": arguments.size, "fit": arguments.fit},
                "network": {"name": arguments.network},
                "supervision": [{"cases": "train", "labels": "full"}],
            }
        )
        write_run(Run(folder / "run"), config, labels)
        baseline = predicted_apart(arguments, folder, 8)["peak"]
        print(f"8 slices of 512 x 512: peak {baseline:.0f} MB, most of which is Python with torch")
        for slices in arguments.slices:
            found = predicted_apart(arguments, folder, slices)
            size = 512 * 512 * slices * 2 / 2**20
            print(
                f"{slices} slices, {size:.0f} MB as 16-bit integers: peak {found['peak']:.0f} MB, "
                f"{(found['peak'] - baseline) / size:.2f} of the volume beyond that of 8 slices; "
                f"{found['seconds']:.0f} s from start to end",
                flush=True,
            )


def write_run(run: Run, config: Config, labels: dict[str, int]) -> None:
    """A run folder with fresh weights: what is predicted does not matter here."""
    run.folder.mkdir(parents=True)
    run.write_config(config)
    environment = {"labels": labels, "channels": ["MR"], "slice_axis": 2}
    (run.folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    torch.manual_seed(0)
    checkpoint.save(run.folder / "checkpoints" / "best", run.network(), None, {})


def predicted_apart(arguments: argparse.Namespace, folder: Path, slices: int) -> dict[str, float]:
    """Peak memory in MB and seconds of a fresh process that predicts a volume of 512 x 512 voxels a slice."""
    import nibabel as nib

    scan = folder / f"scan{slices}{arguments.ending}"
    smooth = np.random.default_rng(0).normal(0, 1, (16, 16))
    plane = np.kron(smooth, np.ones((32, 32))) * 200 + 1000
    noise = np.random.default_rng(1)
    array = np.empty((512, 512, slices), np.int16, order="F")
    for index in range(slices):
        array[..., index] = plane + noise.normal(0, 30, plane.shape)
    nib.save(nib.Nifti1Image(array, np.eye(4)), scan)
    del array
    command = ["predict", str(folder / "run"), str(scan), "--out", str(folder / "out"), "--device", "cpu"]
    command += ["--overwrite", *(["--probabilities"] if arguments.probabilities else [])]
    code = (
        "import json, resource, sys, torch\n"
        f"torch.set_num_threads({arguments.threads})\n"
        f"sys.argv = ['boundseg'] + {command!r}\n"
        "from boundseg.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"  # in kB on Linux
    )
    started = time.perf_counter()
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if shown.returncode:
        raise SystemExit(shown.stdout + shown.stderr)
    seconds = time.perf_counter() - started
    scan.unlink()
    return {"peak": float(shown.stdout.splitlines()[-1]), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for function in (speed, memory):
        verb = verbs.add_parser(function.__name__)
        verb.set_defaults(function=function)
        verb.add_argument("--network", default="enet")
        verb.add_argument("--threads", type=int, default=2)
        verb.add_argument("--size", type=int, nargs=2, default=[256, 256] if function is speed else [128, 128])
        verb.add_argument("--fit", default="pad" if function is speed else "resize")
        verb.add_argument("--out", type=Path, help="Where the temporary files go.")
        if function is speed:
            verb.add_argument("dataset", type=Path)
            verb.add_argument("--spacing", type=float, nargs=2)
            verb.add_argument("--rounds", type=int, default=3)
            verb.add_argument("--every", type=int, default=1, help="Takes every n-th case only.")
            verb.add_argument("--clock", choices=["wall", "processor"], default="wall")
        else:
            verb.add_argument("--slices", type=int, nargs="+", default=[100, 250, 500])
            verb.add_argument("--classes", type=int, default=3)
            verb.add_argument("--ending", default=".nii.gz")
            verb.add_argument("--probabilities", action="store_true")
    arguments = parser.parse_args()
    shown = {name: value for name, value in vars(arguments).items() if name != "function"}
    print(f"torch {torch.__version__}, {arguments.function.__name__}, {shown}", flush=True)
    arguments.function(arguments)


if __name__ == "__main__":
    main()
