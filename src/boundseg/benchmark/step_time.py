"""Table 5 of Kervadec et al. 2019, and what it could not hold: how long a training step takes by each method."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from boundseg.benchmark.timing import Job, Median, Report, clock_of, interleaved, median, threads_of
from boundseg.benchmark.work import Precision, Work
from boundseg.constraints.projection import Hardening, Stop
from boundseg.errors import ConfigError, Problem
from boundseg.losses import Method, Penalties, Proposals
from boundseg.nearest import did_you_mean

PLAIN = "partial"
PAPER_PLAIN_MS = 112.0


@dataclass(frozen=True)
class Row:
    """One way to teach.

    Attributes:
        name: How the table calls it.
        sides: Bounds on the size of the one bounded class: 0, 1 (upper) or 2.
        method: How they teach.
        full: Whether every pixel is labelled.
        paper_ms: What the paper's Table 5 says, on a GTX 1080 Ti with a batch of 1.
        repeats: How often a round times the loss alone; the ascents are long enough for once.
    """

    name: str
    sides: int = 0
    method: Callable[[Work], Method] = lambda work: Penalties()
    full: bool = False
    paper_ms: float | None = None
    repeats: int = 5


def _ascent(name: str, sides: int, stop: Stop, paper_ms: float | None = None) -> Row:
    return Row(name, sides, lambda work: Proposals("ascent", stop=stop), paper_ms=paper_ms, repeats=1)


def _exact(name: str, sides: int, targets: Hardening = "argmax") -> Row:
    return Row(name, sides, lambda work: Proposals("exact", targets))


ROWS: dict[str, Row] = {
    PLAIN: Row("partial CE", paper_ms=PAPER_PLAIN_MS),
    "full": Row("full supervision", full=True, paper_ms=112),
    "direct-1": Row("direct loss, 1 bound", 1, paper_ms=113),
    "direct-2": Row("direct loss, 2 bounds", 2, paper_ms=113),
    "ascent-1": _ascent("ascent proposals, 1 bound", 1, "never", 610),
    "ascent-2": _ascent("ascent proposals, 2 bounds", 2, "never", 675),
    "ascent-1-stop": _ascent("ascent, early stop, 1 bound", 1, "published", 221),
    "ascent-2-stop": _ascent("ascent, early stop, 2 bounds", 2, "published", 220),
    "ascent-2-both": _ascent("ascent, stop of both, 2 bounds", 2, "both"),
    "exact-1": _exact("exact proposals, 1 bound", 1),
    "exact-2": _exact("exact proposals, 2 bounds", 2),
    "exact-2-best": _exact("exact proposals, best, 2 bounds", 2, "best"),
    "lagrangian": Row("Lagrangian, 2 bounds", 2, lambda work: work.lagrangian(None)),
    "augmented": Row("augmented Lagrangian, 2 bounds", 2, lambda work: work.lagrangian(1.0)),
}


@dataclass(frozen=True)
class StepTime:
    """What a training step takes in one way to teach.

    Attributes:
        row: A key of :data:`ROWS`.
        batch: Images in it.
        step_s: The whole step.
        ratio: Over the step with partial cross-entropy of the same round.
        loss_s: From logits to their gradient.
        share: ``loss_s``, less that of partial cross-entropy, over the step with partial cross-entropy, all three of
            one round. Where the ratio drowns in the machine's noise, this does not.
    """

    row: str
    batch: int
    step_s: Median
    ratio: Median
    loss_s: Median
    share: Median


@dataclass(frozen=True)
class StepTimes:
    """Rows for every batch size, and on what they were measured."""

    rows: tuple[StepTime, ...]
    setting: str

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """For each batch size a table to read, below its title; the paper's figures beside batch 1, which is theirs."""
        found: dict[str, list[dict[str, str]]] = {}
        for time in self.rows:
            row = ROWS[time.row]
            shown = {
                "training step": row.name,
                "ms a step": time.step_s.told(0, 1e3),
                "/ partial CE": time.ratio.told(3),
                "loss alone, ms": time.loss_s.told(1, 1e3),
                "added share of a step, %": time.share.told(2, 1e2),
            }
            if time.batch == 1:
                shown["paper, ms"] = "" if row.paper_ms is None else f"{row.paper_ms:.0f}"
                shown["paper, ratio"] = "" if row.paper_ms is None else f"{row.paper_ms / PAPER_PLAIN_MS:.3f}"
            found.setdefault(f"batch {time.batch}; {self.setting}", []).append(shown)
        return found

    def markdown(self) -> str:
        """The tables, to be pasted."""
        lines: list[str] = []
        for title, rows in self.tables().items():
            lines += [
                f"**{title[0].upper()}{title[1:]}**",
                "",
                f"| {' | '.join(rows[0])} |",
                "|---" * len(rows[0]) + "|",
            ]
            lines += [f"| {' | '.join(row.values())} |" for row in rows]
            lines.append("")
        return "\n".join(lines)

    def csv(self) -> str:
        """All digits; seconds and plain ratios, with the ends of 95 % intervals."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        measures = ("step_s", "ratio", "loss_s", "share")
        columns = [f"{measure}{end}" for measure in measures for end in ("", "_low", "_high")]
        writer.writerow(["row", "name", "batch", *columns, "paper_ms"])
        for time in self.rows:
            row = ROWS[time.row]
            medians: list[Median] = [getattr(time, measure) for measure in measures]
            numbers = [f"{number:.6g}" for m in medians for number in (m.value, m.low, m.high)]
            paper = "" if row.paper_ms is None else f"{row.paper_ms:g}"
            writer.writerow([time.row, row.name, time.batch, *(n.replace("nan", "") for n in numbers), paper])
        return text.getvalue()


def step_time(
    network: str = "enet",
    batches: Sequence[int] = (1,),
    size: tuple[int, int] = (256, 256),
    rows: Sequence[str] = (),
    *,
    rounds: int = 20,
    device: str = "cpu",
    threads: int | None = None,
    precision: Precision = "32-true",
    seed: int = 0,
    report: Report | None = None,
) -> StepTimes:
    """Times training steps, each by every method, in turns.

    A step is: gradients to zero, forward, loss, backward, Adam (fused), all on one network with two outputs and one
    batch of drawn images with a few labelled pixels; see :mod:`boundseg.benchmark.blobs` for the bounds.

    Args:
        network: See :func:`boundseg.networks.build`.
        batches: Images in a step; all rows for one, then for the next.
        size: Rows and columns of the images.
        rows: Keys of :data:`ROWS`; partial cross-entropy is always among them. Default: all.
        rounds: How often each step is timed; fewer than six give no intervals.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: Of the CPU. Default: as torch has it.
        precision: Of the forward pass.
        seed: Of weights, images and orders.
        report: Told what is being timed.

    Raises:
        ConfigError: Names that are not known, numbers below 1, or a size that the network does not take.
    """
    require_counts({"batch": batches, "size": size, "rounds": [rounds], "threads": [1 if threads is None else threads]})
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        known = ", ".join(ROWS)
        raise ConfigError.of(
            Problem(f"there is no row {row!r}{did_you_mean(row, ROWS)}", remedy=f"The rows are: {known}.")
            for row in unknown
        )
    on = torch.device(device)
    chosen = {key: row for key, row in ROWS.items() if not rows or key in rows or key == PLAIN}
    found: list[StepTime] = []
    with threads_of(threads):
        for batch in batches:
            work = Work(network, batch, 1, size, on, precision, seed)
            told = None if report is None else _of_batch(report, batch)
            found += _timed(work, batch, chosen, rounds, seed, told)
        setting = (
            f"{network}, {size[0]} x {size[1]}, {precision}, {rounds} round{'s' * (rounds > 1)}, {circumstances(on)}"
        )
    return StepTimes(tuple(found), setting)


def _timed(
    work: Work, batch: int, rows: dict[str, Row], rounds: int, seed: int, report: Report | None
) -> list[StepTime]:
    jobs: dict[str, Job] = {}
    for key, row in rows.items():
        jobs[f"step {key}"] = Job(work.step(row.method(work), row.sides, row.full))
        jobs[f"loss {key}"] = Job(work.loss(row.method(work), row.sides, row.full), row.repeats)
    times = interleaved(jobs, rounds, work.device, seed, report)
    step, loss = times[f"step {PLAIN}"], times[f"loss {PLAIN}"]
    return [
        StepTime(
            key,
            batch,
            median(times[f"step {key}"]),
            median(times[f"step {key}"] / step),
            median(times[f"loss {key}"]),
            median((times[f"loss {key}"] - loss) / step),
        )
        for key in rows
    ]


def require_counts(counts: Mapping[str, Sequence[int]]) -> None:
    """Numbers of which there is one at least, and each at least 1.

    Raises:
        ConfigError: Every one that is not.
    """
    problems = [
        Problem(f"{name} is {number}, and must be 1 or more.", remedy=f"Give --{name} another number.")
        for name, numbers in counts.items()
        for number in numbers
        if number < 1
    ]
    problems += [
        Problem(f"no {name} is named.", remedy=f"Give --{name} once or more.") for name, n in counts.items() if not n
    ]
    if problems:
        raise ConfigError.of(problems)


def _of_batch(report: Report, batch: int) -> Report:
    return lambda text: report(f"batch {batch}, {text}")


def circumstances(device: torch.device) -> str:
    """Device, threads, clock and version of torch, as a table's title names them."""
    count = torch.get_num_threads()
    return f"{device.type}, {count} thread{'s' * (count > 1)}, {clock_of(device)[1]}, torch {torch.__version__}"
