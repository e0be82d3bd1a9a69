"""Results to a table: means over seeds, the paper's figure beside ours, how steady, paired tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import mean as mean_of
from statistics import stdev

import pandas as pd

from boundseg.evaluation.statistics import Steadiness, compare, mean
from boundseg.evaluation.tables import formatted
from boundseg.paper.rows import Beside, Preset, Row
from boundseg.paper.runs import Result

PAPERS_WAY = "validation DSC, the paper's way"


@dataclass(frozen=True)
class Line:
    """A row of the table with all its seeds.

    Attributes:
        row: Of the paper's table.
        results: One for every seed.
    """

    row: Row
    results: tuple[Result, ...]

    @property
    def judged(self) -> list[Result]:
        """The seeds that were trained to the end and judged."""
        return [result for result in self.results if result.test is not None]

    @property
    def judged_on(self) -> str:
        """``test``, or ``validation`` where there is no test set."""
        return self.results[0].planned.judged_on

    @property
    def state(self) -> str:
        """``done``, or which seed is how far."""
        if all(result.state == "done" for result in self.results):
            return "done" if len(self.results) == 1 else f"done, {len(self.results)} seeds"
        if len(self.results) == 1:
            return self.results[0].state
        return "; ".join(f"seed {result.planned.seed}: {result.state}" for result in self.results)

    def dice(self) -> list[float]:
        """For every judged seed, the mean DSC of the test volumes."""
        return [_nanmean(result.volumes()["dice"]) for result in self.judged]

    def paper_dice(self) -> list[float]:
        """For every judged seed, the paper's measure: the mean DSC of validation slices; empty by the honest preset."""
        return [value for value in map(_paper_dice, self.judged) if not math.isnan(value)]

    def interval(self) -> tuple[float, float]:
        """95 % of the mean DSC over patients, all seeds together."""
        found = mean(*self._values("dice")) if self.judged else None
        return (math.nan, math.nan) if found is None else (found.low, found.high)

    def _values(self, measure: str) -> tuple[pd.Series, pd.Series]:
        frame = pd.concat([result.volumes() for result in self.judged])
        return frame[measure], frame["patient"]

    def volumes(self) -> pd.DataFrame:
        """Rows of all judged seeds."""
        return pd.concat([result.volumes() for result in self.judged])

    def shown(self, preset: Preset, beside: Beside = "paper") -> dict[str, str]:
        """A line to read, with somebody's figures beside ours."""
        judged = self.judged
        dice = ""
        if len(judged) == 1:
            dice = formatted(mean(*self._values("dice")), 3)
        elif judged:
            dice = _spread(self.dice(), 3)
        own = {} if preset == "honest" else {PAPERS_WAY: _spread(map(_paper_dice, judged), 3)}
        epochs = sorted({result.judged_epoch for result in judged if result.judged_epoch is not None})
        theirs = {}
        if beside == "paper":
            theirs["the paper's DSC"] = "" if self.row.paper is None else f"{self.row.paper:.4f}"
        elif beside == "elsewhere":
            theirs["published elsewhere"] = self.row.elsewhere
        targets = self.row.base.targets
        of_each = {
            f"DSC {target}": _spread((_nanmean(result.volumes_of(target)["dice"]) for result in judged), 3)
            for target in targets
            if len(targets) > 1
        }
        return {
            "training": self.row.title,
            **theirs,
            **own,
            f"{self.judged_on} DSC, volumes": dice,
            **of_each,
            f"{self.judged_on} DSC, slices": _spread((_nanmean(result.slices()["dice"]) for result in judged), 3),
            "HD95 [mm]": _spread((_nanmean(result.volumes()["hd95_mm"]) for result in judged), 1),
            "absolute volume error [%]": _spread(
                (100 * _nanmean(result.volumes()["absolute_volume_error"]) for result in judged), 1
            ),
            "validation DSC, judged epoch": _spread(map(_judged_dice, judged), 3),
            "judged epoch": ", ".join(str(epoch + 1) for epoch in epochs),
            "validation DSC, last epochs": self._steadiness(),
            "minutes": _spread((result.minutes for result in self.results if result.rows), 1),
            "state": self.state,
        }

    def _steadiness(self) -> str:
        """Mean and standard deviation over the last epochs; of several seeds the means of both."""
        found = [steadiness(result) for result in self.judged]
        found = [one for one in found if one[0]]
        if not found:
            return ""
        counts = sorted({count for count, _, _ in found})
        middle, spread = mean_of(m for _, m, _ in found), mean_of(s for _, _, s in found)
        around = "" if math.isnan(spread) else f" ± {spread:.3f}"
        return f"{middle:.3f}{around} (last {', '.join(map(str, counts))})"

    def _of_each_class(self, result: Result) -> dict[str, float]:
        targets = self.row.base.targets
        found = {f"dice_volumes_{target}": _nanmean(result.volumes_of(target)["dice"]) for target in targets}
        return found if len(targets) > 1 else {}

    def digits(self) -> list[dict[str, object]]:
        """A line for every seed, all digits, for the CSV file."""
        lines = []
        for result in self.results:
            row: dict[str, object] = {
                "row": self.row.key,
                "training": self.row.title,
                "seed": result.planned.seed,
                "state": result.state,
                "paper_dice": self.row.paper,
                "epochs": len(result.rows),
                "epochs_asked": result.planned.config.training.epochs,
                "minutes": result.minutes,
            }
            if result.test is not None:
                count, middle, spread = steadiness(result)
                volumes = result.volumes()
                dice = mean(volumes["dice"], volumes["patient"])
                row |= {
                    "judged_on": self.judged_on,
                    "dice_volumes": dice.value,
                    "dice_volumes_low": dice.low,
                    "dice_volumes_high": dice.high,
                    **self._of_each_class(result),
                    "dice_slices": _nanmean(result.slices()["dice"]),
                    "hd95_mm": _nanmean(volumes["hd95_mm"]),
                    "absolute_volume_error": _nanmean(volumes["absolute_volume_error"]),
                    "validation_dice_slices_empty_one": _paper_dice(result),
                    "judged_epoch": result.judged_epoch,
                    "validation_dice_judged_epoch": _judged_dice(result),
                    "last_epochs": count,
                    "last_epochs_validation_dice": middle,
                    "last_epochs_standard_deviation": spread,
                }
            lines.append(row)
        return lines

    def digits_of_volumes(self) -> list[dict[str, object]]:
        """A line for every judged volume and seed, for tests of one's own; of several classes their means."""
        return [
            {"row": self.row.key, "seed": result.planned.seed} | {str(key): value for key, value in volume.items()}
            for result in self.judged
            for volume in result.volumes().to_dict("records")
        ]


def lines_of(results: Iterable[Result]) -> list[Line]:
    """Results gathered by row, in their order."""
    gathered: dict[str, list[Result]] = {}
    rows: dict[str, Row] = {}
    for found in results:
        gathered.setdefault(found.planned.row.key, []).append(found)
        rows[found.planned.row.key] = found.planned.row
    return [Line(rows[key], tuple(of_row)) for key, of_row in gathered.items()]


def steadiness(result: Result) -> tuple[int, float, float]:
    """How many of the last epochs were validated, and mean and standard deviation of their DSC."""
    found = Steadiness.of(result.validation_dice, len(result.rows), result.planned.longer)
    return len(found.values), found.mean, found.deviation


def pairs(lines: Sequence[Line]) -> list[dict[str, object]]:
    """Every two judged rows of one dataset: the mean difference of the test DSC, and Wilcoxon's test over patients.

    Phases and seeds of a patient are averaged first; Holm's correction is over all pairs of a dataset.
    """
    found: list[dict[str, object]] = []
    for name in dict.fromkeys(line.row.base.name for line in lines):
        rows = {line.row.title: line.volumes() for line in lines if line.judged and line.row.base.name == name}
        found += [
            {
                "pair": f"{one.pair[0]} − {one.pair[1]}",
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "patients": one.patients,
                "p": one.p,
                "p_holm": one.p_holm,
            }
            for one in compare(rows)
        ]
    return found


def pairs_shown(found: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """The same to read."""
    return [
        {
            "pair": str(row["pair"]),
            "difference": f"{row['difference']:+.3f}"
            + ("" if math.isnan(float(str(row["low"]))) else f" ({row['low']:+.3f} to {row['high']:+.3f})"),
            "patients": str(row["patients"]),
            "p": _p(float(str(row["p"]))),
            "p (Holm)": _p(float(str(row["p_holm"]))),
        }
        for row in found
    ]


def csv(rows: Sequence[Mapping[str, object]]) -> str:
    """A CSV table; the columns are those of all rows, in the order of their first appearance."""
    text = StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    pd.DataFrame(rows, columns=columns).to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    return text.getvalue()


def latex(rows: Sequence[Mapping[str, str]], caption: str) -> str:
    """A LaTeX table with the rules of booktabs; the keys of the first row are its head."""
    head = list(rows[0])
    body = [" & ".join(_tex(row.get(key, "")) for key in head) + r" \\" for row in rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{_tex(caption)}}}",
            r"\centering\small",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, head)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "&%$#_{}" else r"\textbackslash{}" if c == "\\" else c for c in text)
    signs = {"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$", "²": "$^2$", "λ": r"$\lambda$"}
    for sign, command in signs.items():
        escaped = escaped.replace(sign, command)
    return escaped


def _paper_dice(result: Result) -> float:
    slices = result.validation_slices()
    return _nanmean(slices["dice"]) if len(slices) else math.nan


def _judged_dice(result: Result) -> float:
    return dict(result.validation_dice).get(-1 if result.judged_epoch is None else result.judged_epoch, math.nan)


def _nanmean(values: pd.Series) -> float:
    return float(values.mean()) if values.notna().any() else math.nan


def _spread(values: Iterable[float], digits: int) -> str:
    """``0.843``, or of several seeds ``0.843 ± 0.012``: mean and standard deviation."""
    found = [value for value in values if not math.isnan(value)]
    if not found:
        return ""
    if len(found) == 1:
        return f"{found[0]:.{digits}f}"
    return f"{mean_of(found):.{digits}f} ± {stdev(found):.{digits}f}"


def _p(value: float) -> str:
    return "NaN" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
