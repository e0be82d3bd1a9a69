"""From rows to what people read: means with counts, as plain rows and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Evaluation:
    """All rows of an evaluation.

    Attributes:
        volumes: A row per case and class.
        slices: A row per case, class and slice.
        constraints: A row per case, constraint and slice (or volume); empty where nothing was asked.
    """

    volumes: pd.DataFrame
    slices: pd.DataFrame
    constraints: pd.DataFrame

    def summary(self) -> list[dict[str, str]]:
        """One row per class: means over the cases in which the measure is defined, with their number."""
        rows = []
        for name, volumes in self.volumes.groupby("class", sort=False):
            slices = self.slices[self.slices["class"] == name]
            row = {
                "class": str(name),
                "DSC (volumes)": _mean(volumes["dice"], 3),
                "DSC (slices)": _mean(slices["dice"], 3),
                "volume error [mL]": _mean(volumes["volume_error_ml"], 1, signed=True),
                "absolute volume error [%]": _mean(100 * volumes["relative_volume_error"].abs(), 1),
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


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table with the keys of the first row as its head."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row.get(key, "") for key in head) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _mean(values: pd.Series, digits: int, signed: bool = False) -> str:
    defined = values.dropna()
    if defined.empty:
        return "NaN (n = 0)"
    number = f"{defined.mean():+.{digits}f}" if signed else f"{defined.mean():.{digits}f}"
    undefined = len(values) - len(defined)
    return f"{number} (n = {len(defined)}{f', {undefined} undefined' if undefined else ''})"


def _share(kept: pd.Series) -> str:
    return f"{kept.mean():.1%}" if len(kept) else "NaN"
