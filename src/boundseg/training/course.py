"""How a training went: rows of ``metrics.csv`` as tables to read, with whatever columns they have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Row = Mapping[str, float]
Table = list[dict[str, str]]

# what is told of a part of the objective, by the columns' beginnings
OF_A_PART = {
    "loss": "penalty: ",
    "pull": "pull: ",
    "satisfied": "satisfied: ",
    "soft value": "value: ",
    "multiplier": "multiplier: ",
}
WHOLE = ("cross_entropy", "proposal", "gated_crf")  # parts that are no constraints: their loss has their name
PHASE = "seconds: "
SHARES = ("satisfied: ", "validation satisfied: ", "validation leak: ", "proposal feasible")
# told by the other tables; penalties are of use beside what they weigh
NOT_COMPARED = (
    *("epoch", "seconds", "waiting", "images_per_second"),
    *("pull: ", "multiplier: ", "penalty: ", "validation penalty: "),
)
# columns that nobody here knows come after these
ORDER = (
    *("objective", "cross_entropy", "gated_crf", "proposal", "gradient", "lr", "satisfied: ", "value: "),
    *("validation dice: ", "validation objective", "validation cross_entropy", "validation gated_crf"),
    *("validation leak: ", "validation satisfied: ", "validation value: "),
)


def parts(row: Row) -> Table:
    """The parts of an epoch's objective: loss before its weight, norm of its gradient, and what it has reached.

    The norm (``pull``) is that of the weighted part with respect to the logits: parts that pull alike are balanced.
    Columns that no part has are left out.
    """
    names = [name for name in WHOLE if name in row]
    names += [name.removeprefix("penalty: ") for name in row if name.startswith("penalty: ")]
    told = [{"part": name} | {column: _of_part(row, column, name) for column in OF_A_PART} for name in names]
    empty = [column for column in OF_A_PART if not any(part[column] for part in told)]
    return [{column: text for column, text in part.items() if column not in empty} for part in told]


def compared(rows: Sequence[Row], best_epoch: int | None) -> Table:
    """The figures of the first, the best and the last epoch side by side; of one epoch, once."""
    chosen = _chosen(rows, best_epoch)
    names = dict.fromkeys(name for _, row in chosen for name in row if not name.startswith(NOT_COMPARED))
    return [
        {"figure": name} | {title: figure(name, row[name]) if name in row else "" for title, row in chosen}
        for name in sorted(names, key=_rank)
    ]


def times(rows: Sequence[Row]) -> Table:
    """Where the seconds of an epoch go, by the columns ``seconds: PHASE``; empty where there are none."""
    phases = {name.removeprefix(PHASE): name for name in rows[-1] if name.startswith(PHASE)}
    if not phases:
        return []
    whole, told = sum(row["seconds"] for row in rows), []
    for phase, name in {"whole epoch": "seconds", **phases}.items():
        known = [value for row in rows if not math.isnan(value := row.get(name, math.nan))]
        share = sum(known) / whole if len(known) == len(rows) and whole else math.nan
        told.append(
            {
                "phase": phase,
                "first epoch, s": _seconds(rows[0].get(name, math.nan)),
                "last epoch, s": _seconds(rows[-1][name]),
                "all epochs, s": _seconds(sum(known)),
                "share": "-" if math.isnan(share) else f"{share:.1%}",
            }
        )
    return told


def speed(row: Row) -> str:
    """How fast an epoch was, and how long it waited."""
    told = [f"{row['seconds']:.1f} s an epoch"]
    told += [f"{row['images_per_second']:.3g} images/s"] if "images_per_second" in row else []
    told += [f"{row['waiting']:.1%} of the time waiting for data"] if "waiting" in row else []
    return ", ".join(told)


def figure(name: str, value: float) -> str:
    """A figure in four digits, a share in percent; ``-`` where it is undefined."""
    if math.isnan(value):
        return "-"
    return f"{value:.1%}" if name.startswith(SHARES) else f"{value:.4g}"


def _of_part(row: Row, column: str, name: str) -> str:
    found = name if column == "loss" and name in WHOLE else OF_A_PART[column] + name
    return figure(found, row[found]) if found in row else ""


def _chosen(rows: Sequence[Row], best_epoch: int | None) -> list[tuple[str, Row]]:
    """Epochs with the words for them, in their order."""
    words: dict[int, list[str]] = {0: ["first"]}
    for index, row in enumerate(rows):
        if row["epoch"] == best_epoch:
            words.setdefault(index, []).append("best")
    words.setdefault(len(rows) - 1, []).append("last")
    return [(f"{' and '.join(said)} ({rows[i]['epoch']:.0f})", rows[i]) for i, said in sorted(words.items())]


def _rank(name: str) -> int:
    return next((rank for rank, start in enumerate(ORDER) if name.startswith(start)), len(ORDER))


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
