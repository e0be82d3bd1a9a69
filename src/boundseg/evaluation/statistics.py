"""How sure a mean is, and whether two runs differ: patients, not slices or phases, are what was sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float

RESAMPLES = 5000
SEED = 0  # of the bootstrap: the same rows give the same interval
LAST_EPOCHS = 50  # over which the paper calls a method unstable or not; of a short run, its last quarter


@dataclass(frozen=True)
class Mean:
    """A mean over rows (cases, slices) with what is known about it.

    Attributes:
        value: NaN where no row is defined.
        low: Lower end of the 95 % interval; NaN with fewer than two patients.
        high: Upper end.
        count: Rows that are defined.
        undefined: Rows that are not, and are left out.
    """

    value: float
    low: float
    high: float
    count: int
    undefined: int


def mean(values: Sequence[float] | pd.Series, patients: Sequence[str] | pd.Series) -> Mean:
    """The mean of the defined values, with a 95 % bootstrap interval that draws whole patients.

    Cases of one patient resemble each other: drawing them one by one would feign more evidence than there is.

    Args:
        values: NaN where undefined.
        patients: Whose each value is.
    """
    frame = pd.DataFrame({"value": np.asarray(values, float), "patient": np.asarray(patients)})
    defined = frame.dropna(subset="value")
    undefined = len(frame) - len(defined)
    if defined.empty:
        return Mean(math.nan, math.nan, math.nan, 0, undefined)
    of_patient = defined.groupby("patient")["value"].agg(["sum", "count"]).to_numpy(float)
    low, high = _bootstrap(of_patient)
    return Mean(float(defined["value"].mean()), low, high, len(defined), undefined)


@dataclass(frozen=True)
class Steadiness:
    """How steadily a training ends: a figure over its last epochs, the paper's "unstable".

    Attributes:
        epochs: How many of the last ones are looked at.
        values: Of those that were validated.
    """

    epochs: int
    values: tuple[float, ...]

    @classmethod
    def of(cls, validated: Sequence[tuple[float, float]], epochs: int, longer: float = 1.0) -> Steadiness:
        """The last 50 epochs, or the last quarter of a training that has fewer than 200.

        Args:
            validated: Epochs, from 0, and their figures.
            epochs: How many there were.
            longer: As many times more are looked at, where epochs are as much shorter.
        """
        count = min(round(LAST_EPOCHS * longer), max(1, epochs // 4))
        return cls(count, tuple(value for epoch, value in validated if epoch >= epochs - count))

    @property
    def mean(self) -> float:
        """NaN where none was validated."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation; NaN of fewer than two."""
        return float(np.std(self.values)) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same patients.

    Attributes:
        pair: Their names.
        difference: Mean of the first less the second, each patient's cases averaged first.
        low: Lower end of its 95 % interval; NaN with fewer than two patients.
        high: Upper end.
        patients: How many have the measure in both.
        p: Of Wilcoxon's signed-rank test, two-sided.
        p_holm: The same, corrected for the number of pairs (Holm 1979).
    """

    pair: tuple[str, str]
    difference: float
    low: float
    high: float
    patients: int
    p: float
    p_holm: float


def compare(rows: Mapping[str, pd.DataFrame], measure: str = "dice") -> list[Comparison]:
    """Every pair of runs, by Wilcoxon's signed-rank test on patients, Holm's correction over the pairs.

    Args:
        rows: For each run's name, rows of one class with the columns ``patient`` and the measure.
        measure: The column to compare.
    """
    of_patient = {name: frame.groupby("patient")[measure].mean() for name, frame in rows.items()}
    found: list[tuple[tuple[str, str], np.ndarray, float]] = []
    for one, other in combinations(of_patient, 2):
        differences = (of_patient[one] - of_patient[other]).dropna().to_numpy(float)
        found.append(((one, other), differences, _wilcoxon(differences)))
    corrected = holm([p for _, _, p in found])
    return [
        Comparison(
            pair,
            float(d.mean()) if len(d) else math.nan,
            *_bootstrap(np.stack([d, np.ones_like(d)], axis=1)),
            len(d),
            p,
            p_holm,
        )
        for (pair, d, p), p_holm in zip(found, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics, 1979); NaN stays and does not count."""
    p = np.asarray(p_values, float)
    corrected = np.full(p.shape, np.nan)
    ranked = [int(i) for i in np.argsort(p) if not np.isnan(p[i])]
    highest = 0.0
    for rank, index in enumerate(ranked):
        highest = max(highest, min(1.0, (len(ranked) - rank) * float(p[index])))
        corrected[index] = highest
    return [float(value) for value in corrected]


def _wilcoxon(differences: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import wilcoxon

    if len(differences) == 0:
        return math.nan
    if not differences.any():  # scipy's statistic is undefined there; nothing speaks for a difference
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _bootstrap(of_patient: Float[np.ndarray, "patients 2"]) -> tuple[float, float]:
    """The 95 % percentile interval of a mean; each patient's sum and count are drawn together."""
    if len(of_patient) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(SEED).integers(len(of_patient), size=(RESAMPLES, len(of_patient)))
    sums, counts = np.moveaxis(of_patient[drawn].sum(1), 1, 0)
    low, high = np.quantile(sums / counts, (0.025, 0.975))
    return float(low), float(high)
