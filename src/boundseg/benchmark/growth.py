"""How the cost of a method grows: with the number of bounded classes, and with the batch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from boundseg.benchmark.step_time import circumstances, require_counts
from boundseg.benchmark.timing import Job, Report, interleaved, threads_of
from boundseg.benchmark.work import Work
from boundseg.losses import Method, Penalties, Proposals

METHODS: dict[str, Method] = {"direct loss": Penalties(), "exact proposals": Proposals("exact")}
LIMIT = 0.1  # the share of a step that a constraint should stay below
REPEATS = 5  # of a loss in a round
FEWEST = 2  # rounds of a big batch


@dataclass(frozen=True)
class GrowthPoint:
    """What a method adds to a step of one network on one batch.

    Attributes:
        method: A key of :data:`METHODS`.
        classes: Bounded ones, each from both sides; the network has one output more.
        batch: Images.
        added_s: What the loss takes more than partial cross-entropy, from logits to their gradient; the median round.
        step_s: A step with partial cross-entropy; the median round.
        share: ``added_s`` over ``step_s`` of one round; the median round.
        lowest: Of all rounds.
        highest: Of all rounds.
        rounds: That were timed.
        extrapolated: Whether ``step_s`` was taken from a smaller batch, as proportional to its size.
    """

    method: str
    classes: int
    batch: int
    added_s: float
    step_s: float
    share: float
    lowest: float
    highest: float
    rounds: int
    extrapolated: bool


@dataclass(frozen=True)
class Growth:
    """Points along both ways to grow, and on what they were measured."""

    points: tuple[GrowthPoint, ...]
    setting: str

    def along(self, axis: str, method: str) -> list[GrowthPoint]:
        """The points of a method that differ in ``classes``, or in ``batch``, and have the least of the other."""
        other = "batch" if axis == "classes" else "classes"
        least = min(getattr(point, other) for point in self.points)
        found = [point for point in self.points if point.method == method and getattr(point, other) == least]
        return sorted(found, key=lambda point: int(getattr(point, axis)))

    def table(self) -> list[dict[str, str]]:
        """A row for each number of classes and batch size, to read."""
        rows: dict[tuple[int, int], dict[str, str]] = {}
        for point in self.points:
            row = rows.setdefault((point.classes, point.batch), {})
            row |= {
                "bounded classes": f"{point.classes}",
                "batch": f"{point.batch}",
                "plain step, ms": f"{1e3 * point.step_s:.0f}{' (extrapolated)' * point.extrapolated}",
                f"{point.method}, ms": f"{1e3 * point.added_s:.2f}",
                f"{point.method}, % of a step": f"{1e2 * point.share:.2f} ({1e2 * point.lowest:.2f} to "
                f"{1e2 * point.highest:.2f})",
            }
        return list(rows.values())

    def csv(self) -> str:
        """All points with all digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(GrowthPoint.__dataclass_fields__)
        for point in self.points:
            values = [getattr(point, name) for name in GrowthPoint.__dataclass_fields__]
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
        return text.getvalue()

    def draw(self, path: Path) -> None:
        """Two panels, over classes and over the batch; bars reach from the lowest round to the highest.

        Args:
            path: Of the picture; its ending says of what kind.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4, 3.4), dpi=110, layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        least = min((point.classes, point.batch) for point in self.points)
        for panel, axis, label in zip(
            panels,
            ("classes", "batch"),
            (f"bounded classes, at batch {least[1]}", f"batch, at {least[0]} bounded class{'es' * (least[0] > 1)}"),
            strict=True,
        ):
            for method, colour, marker in zip(METHODS, ("#0072B2", "#D55E00"), ("o", "s"), strict=True):
                points = self.along(axis, method)
                x = [getattr(point, axis) for point in points]
                y, low, high = 100 * np.array([[point.share, point.lowest, point.highest] for point in points]).T
                panel.errorbar(x, y, (y - low, high - y), color=colour, linewidth=1.4, elinewidth=0.9, capsize=2)
                for i, point in enumerate(points):
                    face = "white" if point.extrapolated else colour
                    label_once = method if i == 0 else None
                    panel.plot(x[i], y[i], marker, color=colour, markerfacecolor=face, markersize=5, label=label_once)
            panel.axhline(100 * LIMIT, color="#606060", linestyle="--", linewidth=1)
            panel.set_xscale("log", base=2)
            panel.set_xticks(x, [f"{number}" for number in x])
            panel.minorticks_off()
            panel.set_xlabel(label)
            panel.set_ylim(bottom=0)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("added, % of a training step")
        panels[1].annotate(
            f"{100 * LIMIT:.0f} % of a step",
            (1, 100 * LIMIT),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color="#606060",
        )
        panels[1].legend(frameon=False, loc="upper right")
        if any(point.extrapolated for point in self.points):
            panels[1].set_title("open markers: the step's time is extrapolated", fontsize=8, loc="right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def growth(
    network: str = "enet",
    classes: Sequence[int] = (1, 2, 4, 8, 16),
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    size: tuple[int, int] = (256, 256),
    *,
    rounds: int = 12,
    largest_step: int = 64,
    device: str = "cpu",
    threads: int | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Growth:
    """Times the losses of both methods and a plain step, for each number of classes and for each batch, in turns.

    Classes grow at the smallest batch, batches with the fewest classes.

    Args:
        network: See :func:`boundseg.networks.build`.
        classes: Numbers of bounded classes.
        batches: Images in a step.
        size: Rows and columns of the images.
        rounds: At batch 1; a batch of B has ``rounds`` / B, but two at least. Each times every loss five times.
        largest_step: The largest batch whose step is timed, where a larger one would not fit into memory: a step keeps
            every layer's output for its gradient, a loss the logits alone. Above it, the time of a step is taken as
            proportional to the batch.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: Of the CPU. Default: as torch has it.
        seed: Of weights, images and orders.
        report: Told what is being timed.

    Raises:
        ConfigError: No such network, numbers below 1, or a size that the network does not take.
    """
    require_counts(
        {
            "classes": classes,
            "batch": batches,
            "size": size,
            "rounds": [rounds],
            "largest-step": [largest_step],
            "threads": [1 if threads is None else threads],
        }
    )
    on = torch.device(device)
    cells = sorted({(k, min(batches)) for k in classes} | {(min(classes), batch) for batch in batches})
    points: list[GrowthPoint] = []
    with threads_of(threads):
        for number, batch in cells:
            timed = min(batch, largest_step)
            work = Work(network, batch, number, size, on, seed=seed, chunk=timed)
            step_of = work if timed == batch else Work(network, timed, number, size, on, seed=seed)
            told = None if report is None else _of_cell(report, number, batch)
            points += _measured(work, step_of, max(FEWEST, rounds // batch), seed, told)
        setting = f"{network}, {size[0]} x {size[1]}, {circumstances(on)}"
    return Growth(tuple(points), setting)


def _measured(work: Work, step_of: Work, rounds: int, seed: int, report: Report | None) -> list[GrowthPoint]:
    """One network and batch by both methods, its step timed on a smaller batch where that is given."""
    batch, timed = len(work.logits), len(step_of.logits)
    jobs = {"step": Job(step_of.step()), "loss": Job(work.loss(), REPEATS)}
    jobs |= {name: Job(work.loss(method, 2), REPEATS) for name, method in METHODS.items()}
    times = interleaved(jobs, rounds, work.device, seed, report)
    step = times["step"] * batch / timed
    points: list[GrowthPoint] = []
    for name in METHODS:
        added = times[name] - times["loss"]
        share = added / step
        points.append(
            GrowthPoint(
                method=name,
                classes=work.classes,
                batch=batch,
                added_s=float(np.median(added)),
                step_s=float(np.median(step)),
                share=float(np.median(share)),
                lowest=float(share.min()),
                highest=float(share.max()),
                rounds=rounds,
                extrapolated=timed < batch,
            )
        )
    return points


def _of_cell(report: Report, classes: int, batch: int) -> Report:
    return lambda text: report(f"{classes} classes, batch {batch}, {text}")
