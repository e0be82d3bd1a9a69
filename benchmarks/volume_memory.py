"""Whole volumes in bounded memory: peak memory and time of ENet at 256 x 256, with a bound on the size of each volume.

python benchmarks/volume_memory.py [--slices 10 50 100 250 500] [--chunk 4] [--rounds 3] [--csv FILE] [--plot FILE]
python benchmarks/volume_memory.py --bias [--slices 20]

Memory: for each number of slices and each mode, a fresh process takes two steps over a volume and reports its peak
resident size (Linux' VmHWM: ru_maxrss begins with the peak of whoever started the process; on a GPU, what torch
allocated), and how much of it came after the network and its optimiser were made. A peak counts what glibc keeps of
freed memory, so that what is printed is what a machine must have. ``--batch`` adds the whole volume in one batch, for
as long as it fits. Slices are drawn when their chunk is made, so that none is held.

Time: in one process, in turns, plain steps over the chunks (cross-entropy alone, a step of the optimiser for each
chunk), one exact step over the volume, and streaming steps over the chunks; ratios are of one round, and the median
round is printed with the lowest and the highest.

Bias: how far the gradient of a streaming step is from the one with the true sums of the rest of the volume, relative,
and how far the remembered size of the rest is from the true one; the median over the steps of the last epoch. The
network trains by Adam at several learning rates.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from boundseg.accumulate import Streaming, accumulate
from boundseg.benchmark.blobs import IGNORE, blobs
from boundseg.constraints import Bounds, Constraint, Frame, Groups, Scope, Size
from boundseg.losses import Elsewhere, Loss, Objective
from boundseg.networks import build

SIDE = 256
MODES = ("exact", "streaming")
SIZE = Constraint("size", Size(), ((1,),), "volume", scale="image", weight=1e-2)
OBJECTIVE = Objective(IGNORE, [SIZE])


@dataclass(frozen=True)
class Chunk:
    """Some slices of the only volume."""

    images: torch.Tensor
    labels: torch.Tensor
    frame: Frame
    volumes: Groups
    bounds: dict[str, Bounds]
    rows: dict[Scope, torch.Tensor]


class Work:
    """A network, its optimiser, and a volume whose slices are drawn when they are asked for."""

    def __init__(self, slices: int, chunk: int, device: torch.device, lr: float = 5e-4) -> None:
        torch.manual_seed(0)
        self.slices, self.device = slices, device
        self.network = build("enet", 1, 2).to(device).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr, fused=True)
        self.streaming = Streaming(slices, 1)
        starts = range(0, slices, chunk)
        self.chunks: list[Callable[[], Chunk]] = [
            lambda first=first: self._chunk(first, min(chunk, slices - first))  # type: ignore[misc]
            for first in starts
        ]
        before = torch.tensor([[0.05 * SIDE**2 * slices]])
        self._bounds = Bounds.around(before, relative=0.1).to(device)

    def _chunk(self, first: int, count: int) -> Chunk:
        drawn = blobs(count, 1, (SIDE, SIDE), seed=first).to(self.device)
        return Chunk(
            drawn.images,
            drawn.seeds,
            Frame.plain(count, 2, self.device),
            Groups(torch.zeros(count, dtype=torch.long), torch.tensor([self.slices])).to(self.device),
            {SIZE.name: self._bounds},
            {
                "slice": torch.arange(first, first + count, device=self.device),
                "volume": torch.zeros(1, dtype=torch.long, device=self.device),
            },
        )

    def loss(self, chunk: Chunk, bounds: dict[str, Bounds], elsewhere: Elsewhere | None) -> Loss:
        logits = self.network(chunk.images)
        return OBJECTIVE(logits, chunk.labels, bounds, chunk.frame, chunk.volumes, rows=chunk.rows, elsewhere=elsewhere)

    def plain(self) -> None:
        """A step for each chunk, with the cross-entropy alone."""
        for make in self.chunks:
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(make(), {}, None).total.backward()
            self.optimizer.step()
        self._finish()

    def exact(self) -> None:
        """One step with the whole volume."""
        self.optimizer.zero_grad(set_to_none=True)
        accumulate(self.network, OBJECTIVE, self.chunks)
        self.optimizer.step()
        self._finish()

    def batch(self) -> None:
        """One step with the whole volume in one batch."""
        self.optimizer.zero_grad(set_to_none=True)
        whole = self._chunk(0, self.slices)
        self.loss(whole, whole.bounds, None).total.backward()
        self.optimizer.step()
        self._finish()

    def stream(self) -> None:
        """A step for each chunk, with what was remembered of the rest."""
        for make in self.chunks:
            chunk = make()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(chunk, chunk.bounds, self.streaming.elsewhere(chunk))
            loss.total.backward()
            self.optimizer.step()
            self.streaming.remember(chunk, loss)
        self._finish()

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS, in bytes


def memory_of(mode: str, slices: int, arguments: argparse.Namespace) -> None:
    """In a process of its own: prints its peak before and after two steps."""
    device = torch.device(arguments.device)
    work = Work(slices, arguments.chunk, device)
    before = peak_mb(device)
    for _ in range(2):
        {"exact": work.exact, "streaming": work.stream, "batch": work.batch}[mode]()
    print(json.dumps({"before": before, "peak": peak_mb(device)}))


def memory(mode: str, slices: int, arguments: argparse.Namespace) -> dict[str, float]:
    given = ["--chunk", arguments.chunk, "--threads", arguments.threads, "--device", arguments.device]
    command = [sys.executable, __file__, "--measure", mode, "--slices", slices, *given]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def times(slices: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each round; a round before them warms up."""
    work = Work(slices, arguments.chunk, torch.device(arguments.device))
    runs = {"plain": work.plain, "exact": work.exact, "streaming": work.stream}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(arguments.rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - started)
    return found


def ratio(times: dict[str, list[float]], mode: str) -> list[float]:
    """The median, the lowest and the highest round."""
    found = [ours / plain for ours, plain in zip(times[mode], times["plain"], strict=True)]
    return [statistics.median(found), min(found), max(found)]


def bias(slices: int, lr: float, epochs: int, arguments: argparse.Namespace) -> tuple[float, float, int]:
    """Of the gradient and of the remembered size, relative; and in how many steps the size pulled."""
    work = Work(slices, arguments.chunk, torch.device(arguments.device), lr)
    parameters = list(work.network.parameters())
    of_gradient: list[float] = []
    of_size: list[float] = []
    for epoch in range(epochs):
        for number, make in enumerate(work.chunks):
            chunk = make()
            remembered = work.streaming.elsewhere(chunk)
            if epoch == epochs - 1:
                state = torch.get_rng_state()
                buffers = [buffer.clone() for buffer in work.network.buffers()]
                true = true_rest(work, number, remembered)
                gradients = []
                for elsewhere in (remembered, true):
                    torch.set_rng_state(state)
                    loss = work.loss(chunk, chunk.bounds, elsewhere)
                    # of the constraint alone: labels are there in both
                    found = torch.autograd.grad(loss.parts[SIZE.name], parameters)
                    gradients.append(torch.cat([g.flatten() for g in found]))
                if gradients[1].norm() > 0:
                    of_gradient.append(float((gradients[0] - gradients[1]).norm() / gradients[1].norm()))
                sums = [float(rest.totals[SIZE.name].sums) for rest in (remembered, true)]
                of_size.append(abs(sums[0] - sums[1]) / sums[1])
                for buffer, copy in zip(work.network.buffers(), buffers, strict=True):
                    buffer.copy_(copy)
                torch.set_rng_state(state)
            work.optimizer.zero_grad(set_to_none=True)
            loss = work.loss(chunk, chunk.bounds, remembered)
            loss.total.backward()
            work.optimizer.step()
            work.streaming.remember(chunk, loss)
    return statistics.median(of_gradient or [0.0]), statistics.median(of_size), len(of_gradient)


@torch.no_grad()
def true_rest(work: Work, own: int, remembered: Elsewhere) -> Elsewhere:
    """The sums of all other chunks, as the network would now give them."""
    total = None
    for number, make in enumerate(work.chunks):
        if number != own:
            chunk = make()
            share = OBJECTIVE.share(work.network(chunk.images), chunk.labels, chunk.bounds, chunk.frame)
            found = share.totals[SIZE.name].grouped(chunk.volumes)
            total = found if total is None else total + found
    return Elsewhere({} if total is None else {SIZE.name: total}, gain=remembered.gain)


def draw(rows: list[dict[str, float | int | str]], path: Path) -> None:
    """Peak memory and time, over the slices of a volume."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for mode, colour, marker in (("exact", "#0072B2", "o"), ("streaming", "#D55E00", "s"), ("batch", "#606060", "^")):
        points = [row for row in rows if row["mode"] == mode]
        x = [row["slices"] for row in points]
        if points:
            left.plot(x, [row["peak_mb"] for row in points], marker=marker, color=colour, label=mode)
        timed = [row for row in points if "ratio" in row]
        if timed:
            right.plot([row["slices"] for row in timed], [row["ratio"] for row in timed], marker=marker, color=colour)
    left.set_ylabel("peak memory, MB")
    right.set_ylabel("time a slice, relative to a plain step")
    for panel in (left, right):
        panel.set_xlabel("slices of a volume")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[10, 50, 100, 250, 500])
    parser.add_argument("--chunk", type=int, default=4, help="slices in memory at a time")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; 0 leaves times out")
    parser.add_argument("--batch", type=int, default=0, help="also in one batch, up to so many slices")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--bias", action="store_true", help="measure the bias of streaming instead")
    parser.add_argument("--epochs", type=int, default=4, help="of --bias")
    parser.add_argument("--lr", type=float, nargs="+", default=[5e-4, 1e-4, 2e-5], help="of --bias")
    parser.add_argument("--measure", choices=[*MODES, "batch"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        memory_of(arguments.measure, arguments.slices[0], arguments)
        return
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} thread(s), chunks of {arguments.chunk}")
    if arguments.bias:
        for slices in arguments.slices:
            for lr in arguments.lr:
                gradient, size, steps = bias(slices, lr, arguments.epochs, arguments)
                print(
                    f"{slices} slices, lr {lr:g}: gradient {gradient:.2%} off ({steps} steps in which the size "
                    f"pulled), remembered size {size:.3%} off",
                    flush=True,
                )
        return
    rows: list[dict[str, float | int | str]] = []
    for slices in arguments.slices:
        found = times(slices, arguments) if arguments.rounds else None
        for mode in (*MODES, *(["batch"] if slices <= arguments.batch else [])):
            used = memory(mode, slices, arguments)
            row: dict[str, float | int | str] = {"slices": slices, "mode": mode}
            row |= {"peak_mb": used["peak"], "added_mb": used["peak"] - used["before"]}
            text = f"{slices} slices, {mode}: peak {used['peak']:.0f} MB, {row['added_mb']:.0f} MB of it in the step"
            if found and mode in found:
                row |= dict(zip(("ratio", "lowest", "highest"), ratio(found, mode), strict=True))
                row["ms_a_slice"] = 1e3 * statistics.median(found[mode]) / slices
                text += (
                    f"; {row['ms_a_slice']:.0f} ms a slice, {row['ratio']:.3f} ({row['lowest']:.3f} to "
                    f"{row['highest']:.3f}) of a plain step"
                )
            rows.append(row)
            print(text, flush=True)
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            columns = ["slices", "mode", "peak_mb", "added_mb", "ms_a_slice", "ratio", "lowest", "highest"]
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
