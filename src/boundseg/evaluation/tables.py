"""From rows to what people read: means with intervals and counts, as plain rows and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boundseg.evaluation.statistics import Mean, compare, mean

TABLES = ("volumes", "slices", "constraints")
NAMES = ("case", "patient", "class", "constraint", "source")  # columns of words, whatever they look like: NA, 1
SAID = ("known", "soft_kept", "hard_kept")  # True or False
OF_VOLUMES = "case patient class dice hd95_mm assd_mm sensitivity precision reference_px predicted_px"
COLUMNS = {
    "volumes": f"{OF_VOLUMES} reference_ml predicted_ml volume_error_ml relative_volume_error",
    "slices": "case patient class slice dice hd95_mm reference_px predicted_px reference_mm2 predicted_mm2",
    "constraints": "case slice constraint known lower upper soft hard soft_kept hard_kept",
}
SIZE_BINS = 4
MOST_DIGITS = 6  # behind the point; smaller numbers are written with a power of ten


@dataclass(frozen=True)
class Evaluation:
    """All rows of an evaluation.

    Attributes:
        volumes: A row per case and class.
        slices: A row per case, class and slice.
        constraints: A row per case, constraint and slice (or volume); empty where nothing was asked.
        about: What was evaluated: the list of cases, the weights and their epoch, as far as there are any.
    """

    volumes: pd.DataFrame
    slices: pd.DataFrame
    constraints: pd.DataFrame
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> str:
        """The DSC where reference and prediction are both empty: ``nan``, or ``one`` as in the paper."""
        return str(self.about.get("empty", "nan"))

    def texts(self) -> dict[str, str]:
        """File names and contents of what is kept of an evaluation: three tables and ``about.json``."""
        texts = {f"{name}.csv": getattr(self, name).to_csv(index=False, float_format="%.6g") for name in TABLES}
        return texts | {"about.json": json.dumps(dict(self.about), indent=1) + "\n"}

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Reads what :meth:`texts` gave; raises FileNotFoundError or ValueError where it is not there or torn."""
        volumes, slices, constraints = (_table(folder / f"{name}.csv", COLUMNS[name].split()) for name in TABLES)
        for name, table in (("volumes", volumes), ("slices", slices)):
            if table.empty:
                raise ValueError(f"{name}.csv holds no row.")
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if not isinstance(about, dict):
            raise ValueError("about.json is no JSON object.")
        return cls(volumes, slices, constraints, about)

    def summary(self) -> list[dict[str, str]]:
        """One row per class: means over the cases in which a measure is defined, intervals over patients."""
        rows = []
        for name, volumes in self.volumes.groupby("class", sort=False):
            slices = self.slices[self.slices["class"] == name]
            row = {
                "class": str(name),
                "cases (patients)": f"{volumes['case'].nunique()} ({volumes['patient'].nunique()})",
                "DSC (volumes)": _mean(volumes, "dice", 3),
                "DSC (slices)": _mean(slices, "dice", 3),
                "HD95 [mm]": _mean(volumes, "hd95_mm", 1),
                "ASSD [mm]": _mean(volumes, "assd_mm", 2),
                "sensitivity": _mean(volumes, "sensitivity", 3),
                "precision": _mean(volumes, "precision", 3),
                "volume error [mL]": _mean(volumes, "volume_error_ml", 1, signed=True),
                "absolute volume error [%]": _mean(volumes, "relative_volume_error", 1, of=lambda v: 100 * v.abs()),
            }
            if "soft_px" in volumes:
                reference = volumes["reference_px"].sum()
                row["soft / hard / true volume"] = (
                    f"{volumes['soft_px'].sum() / reference:.2f} / {volumes['predicted_px'].sum() / reference:.2f} / 1"
                    if reference
                    else "NaN"
                )
            rows.append(row)
        return rows

    def satisfaction(self) -> list[dict[str, str]]:
        """One row per constraint: the share of known bounds that are kept, by the soft and by the hard value."""
        if self.constraints.empty:
            return []
        rows = []
        for name, found in self.constraints.groupby("constraint", sort=False):
            known = found[found["known"]]
            rows.append(
                {
                    "constraint": str(name),
                    "known": f"{len(known)} of {len(found)}",
                    "kept (soft)": _share(known["soft_kept"]),
                    "kept (argmax)": _share(known["hard_kept"]),
                }
            )
        return rows

    def sources(self) -> dict[str, str]:
        """For each constraint, where its bounds came from, the commonest first; empty where nobody wrote it down."""
        if self.constraints.empty or "source" not in self.constraints:
            return {}
        told = {}
        for name, found in self.constraints[self.constraints["known"]].groupby("constraint", sort=False):
            counts = found["source"].dropna().value_counts()
            first = [
                f"{source} ({count})" if len(counts) > 1 else str(source) for source, count in counts.items() if source
            ]
            told[str(name)] = "; ".join(first[:2]) + (" …" if len(first) > 2 else "")
        return told

    def by_size(self, bins: int = SIZE_BINS) -> list[dict[str, str]]:
        """Slices by the true size of the class, in groups of equal number: does a size bound swell small objects?

        One row per class and group, and one for the slices that the class is absent from. ``predicted / true`` is
        the median of the slices' ratios.
        """
        rows = []
        for name, slices in self.slices.groupby("class", sort=False):
            there = slices[slices["reference_px"] > 0]
            sizes = there["reference_mm2"]
            edges = np.unique(np.quantile(sizes, np.linspace(0, 1, bins + 1))).tolist() if len(there) else []
            largest = slices[["reference_mm2", "predicted_mm2"]].to_numpy(float).max(initial=0)
            for low, high in list(pairwise(edges)) or [(edge, edge) for edge in edges]:
                inside = sizes.between(low, high, inclusive="both" if high == edges[-1] else "left")
                if inside.any():  # between two sizes of many slices each there may be none
                    size = f"{in_digits(low, 0, largest)} to {in_digits(high, 0, largest)}"
                    rows.append(_size_row(str(name), size, there[inside], largest))
            absent = slices[slices["reference_px"] == 0]
            if len(absent):
                rows.append(_size_row(str(name), "absent", absent, largest))
        return rows


def paired_tests(evaluations: Mapping[str, Evaluation], measure: str = "dice") -> list[dict[str, str]]:
    """One row per class and pair of runs; see :func:`boundseg.evaluation.statistics.compare`."""
    first = next(iter(evaluations.values()))
    rows = []
    for name in first.volumes["class"].unique():
        of_class = {run: e.volumes[e.volumes["class"] == name] for run, e in evaluations.items()}
        for found in compare(of_class, measure):
            one, other = found.pair
            interval = "" if math.isnan(found.low) else f" ({found.low:+.3f} to {found.high:+.3f})"
            rows.append(
                {
                    "class": str(name),
                    "pair": f"{one} - {other}",
                    "difference": f"{found.difference:+.3f}{interval}",
                    "patients": str(found.patients),
                    "p": _p(found.p),
                    "p (Holm)": _p(found.p_holm),
                }
            )
    return rows


def transposed(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A row per key and a column per row, headed by the values of the first key."""
    head, *keys = rows[0]
    return [{head: key} | {row[head]: row.get(key, "") for row in rows} for key in keys]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table with the keys of the first row as its head."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row.get(key, "") for key in head) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def formatted(found: Mean, digits: int, signed: bool = False, physical: bool = False) -> str:
    """``0.843 (0.812 to 0.869; n = 32, 1 undefined)``: mean, interval over patients, rows.

    Args:
        found: The mean.
        digits: Behind the point.
        signed: Whether a plus is written.
        physical: Of mm or mL, which are small under a microscope: as many digits as it takes to show two that count.
    """
    if not found.count:
        return "NaN (n = 0)"
    ends = [] if math.isnan(found.low) else [found.low, found.high]
    largest = max(abs(value) for value in (found.value, *ends)) if physical else 1.0
    value, *shown = (in_digits(value, digits, largest, "+" if signed else "") for value in (found.value, *ends))
    interval = f"{' to '.join(shown)}; " if shown else ""
    undefined = f", {found.undefined} undefined" if found.undefined else ""
    return f"{value} ({interval}n = {found.count}{undefined})"


def in_digits(value: float, digits: int, largest: float, sign: str = "") -> str:
    """A value with ``digits`` behind the point, or with as many as show two that count of the largest beside it."""
    if 0 < largest < 10**-digits:
        digits = 1 - math.floor(math.log10(largest))
    return f"{value:{sign}.{digits}f}" if digits <= MOST_DIGITS else f"{value:{sign}.2g}"


def _mean(
    rows: pd.DataFrame,
    measure: str,
    digits: int,
    signed: bool = False,
    of: Callable[[pd.Series], pd.Series] = lambda values: values,
) -> str:
    found = mean(of(rows[measure]), rows["patient"])
    return formatted(found, digits, signed, physical=measure.endswith(("_mm", "_ml")))


def _size_row(name: str, size: str, slices: pd.DataFrame, largest: float) -> dict[str, str]:
    absent = size == "absent"
    error = (slices["predicted_mm2"] - slices["reference_mm2"]).mean()
    ratio = slices["predicted_mm2"] / slices["reference_mm2"].where(slices["reference_mm2"] > 0)
    return {
        "class": name,
        "true size [mm2]": size,
        "slices": str(len(slices)),
        "DSC": "" if absent else _mean(slices, "dice", 3),
        "predicted / true": "" if absent else f"{ratio.median():.2f}",
        "predicted - true [mm2]": in_digits(error, 0, largest, "+"),
        "nothing predicted": _share(slices["predicted_px"] == 0),
        "HD95 [mm]": "" if absent else _mean(slices, "hd95_mm", 1),
    }


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table as it was written; an empty file is an empty one."""
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        return pd.DataFrame()
    if not text.endswith("\n"):
        raise ValueError(f"{path.name} ends within a line.")
    words = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    missing = [name for name in columns if name not in words]
    if missing:
        raise ValueError(f"{path.name} has no column {', '.join(missing)}.")
    return pd.DataFrame({name: _column(path, words[name]) for name in words})


def _column(path: Path, words: pd.Series) -> pd.Series:
    if words.name in NAMES:
        return words
    said = words.name in SAID
    found = words.map({"True": True, "False": False}) if said else pd.to_numeric(words, errors="coerce")
    undefined = words.str.lower().isin(("", "nan"))
    wrong = words[found.isna() if said else found.isna() & ~undefined]
    if len(wrong):
        raise ValueError(f"{path.name}, line {wrong.index[0] + 2}: {words.name} is {wrong.iloc[0]!r}.")
    return found.astype(bool) if said else found


def _p(value: float) -> str:
    return "NaN" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _share(kept: pd.Series) -> str:
    return f"{kept.mean():.1%}" if len(kept) else "NaN"
