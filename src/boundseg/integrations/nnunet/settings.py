"""``boundseg.yaml`` beside ``dataset.json``: what is asked of a training with nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from boundseg.asked.constraints import ConstraintConfig
from boundseg.asked.demands import Demand, demands
from boundseg.asked.problems import problem
from boundseg.asked.section import Count, Section
from boundseg.constraints import QUANTITIES
from boundseg.data import priors
from boundseg.data.dataset import Dataset, Splits
from boundseg.errors import ConfigError, DatasetError, Problem

TRAINER = "nnUNetTrainerBoundseg"
ELSEWHERE = "Train with boundseg, or take it out."
WITHOUT_IGNORE = (
    "dataset.json has no label 'ignore': whatever nobody labelled would be taught as background.",
    'Add "ignore" to its labels, one higher than the last class, use it in labelsTr wherever nothing was drawn, and '
    "plan and preprocess again (boundseg convert nnunet does the first two). Where every voxel is labelled, write "
    "labels: full into boundseg.yaml.",
)


class Settings(Section):
    """The content of ``boundseg.yaml``.

    Attributes:
        constraints: As in the configs of boundseg; see ``docs/config.md``.
        labels: ``weak``: voxels may be ignored, which needs the label ``ignore``. ``full``: all of them are labelled.
        warm_up: Epochs over which the constraints' weights grow from 0.
        epochs: nnU-Net's 1000 where it is left out.
        iterations: Of an epoch; nnU-Net's 250 where it is left out.
        validation_iterations: Of an epoch; nnU-Net's 50 where it is left out.
    """

    constraints: tuple[ConstraintConfig, ...] = ()
    labels: Literal["weak", "full"] = "weak"
    warm_up: Annotated[int, Field(ge=0)] = 0
    epochs: Count | None = None
    iterations: Count | None = None
    validation_iterations: Count | None = None

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Reads the file.

        Raises:
            ConfigError: It is no YAML, or keys or values are wrong; all of them are listed.
        """
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name} is not valid YAML: {error}", str(path.parent), "Mend it.") from error
        if not isinstance(content, dict):
            raise ConfigError(
                f"{path.name} holds no keys.", str(path.parent), "Write constraints: [] where nothing is asked."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError.of(problem(detail, str(path), cls) for detail in error.errors()) from None


@dataclass(frozen=True)
class Asked:
    """What is asked of a training.

    Attributes:
        path: The file that says it.
        settings: Its content.
        demands: Its constraints, and what is known for them of each case.
    """

    path: Path
    settings: Settings
    demands: list[Demand]

    @classmethod
    def load(
        cls, trainer: str, folders: Sequence[Path], description: Mapping[str, Any], cases: Collection[str]
    ) -> Asked:
        """Reads what a trainer is asked.

        Args:
            trainer: Its name, which says the file's.
            folders: The raw and the preprocessed folder of the dataset, those of them that there are.
            description: The content of ``dataset.json``.
            cases: The cases that nnU-Net has preprocessed, or has predicted.

        Raises:
            ConfigError: The file is missing, says something wrong, or asks what cannot be asked here.
            DatasetError: ``dataset.json`` names regions, or no ignore label where it is needed; or it says another
                slice axis in one folder than in the other.
            PriorsError: A ``priors.csv`` is missing, wrong, or knows none of the cases.
        """
        path = find(trainer, folders)
        _require_one_slice_axis(folders)
        settings = Settings.load(path)
        where = str(path.parent / "dataset.json")
        regions = [name for name, value in description["labels"].items() if not isinstance(value, int)]
        if regions:
            raise DatasetError(
                f"{regions[0]!r} is a region of several labels, and bounds are of classes that exclude each other.",
                where,
                "List each class by itself; a constraint may speak of a union, as LV+Myo.",
            )
        if "ignore" not in description["labels"] and settings.labels == "weak":
            raise DatasetError(WITHOUT_IGNORE[0], where, WITHOUT_IGNORE[1])
        _require_askable(settings, path)
        found = demands(settings.constraints, _preprocessed(path, settings, description, cases), "constraints")
        names = [demand.constraint.name for demand in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{twice[0]!r} is asked twice.", str(path), "Take one of the two out.")
        for demand in found:
            if not any(demand.knows(case) for case in cases):
                raise ConfigError(
                    f"{demand.constraint.name!r}: nothing is known of any of the {len(cases)} cases.",
                    str(path),
                    f"Rows of priors.csv name cases as images are named, without _0000: {min(cases, default='none')}.",
                )
        return cls(path, settings, found)


def find(trainer: str, folders: Sequence[Path]) -> Path:
    """The file that a trainer reads: ``boundseg.yaml``, or ``boundseg_NAME.yaml`` of ``nnUNetTrainerBoundseg_NAME``.

    Raises:
        ConfigError: It is nowhere, or in both folders with different content.
    """
    name = f"boundseg{trainer.removeprefix(TRAINER)}.yaml"
    there = [folder / name for folder in folders if (folder / name).is_file()]
    if not there:
        raise ConfigError(
            f"{name} is not there.",
            " or ".join(map(str, folders)),
            "Write it beside dataset.json; constraints: [] asks for nothing. See docs/nnunet.md.",
        )
    if len({path.read_bytes() for path in there}) > 1:
        raise ConfigError(
            f"{name} lies in two folders with different content.", " and ".join(map(str, there)), "Remove one of them."
        )
    return there[0]


def _require_one_slice_axis(folders: Sequence[Path]) -> None:
    """nnU-Net copies dataset.json as it plans; what is written into one of the two later is not in the other."""
    there = [path for folder in folders if (path := folder / "dataset.json").is_file()]
    found = {json.loads(path.read_text(encoding="utf-8-sig")).get("slice_axis", 2) % 3: path for path in there}
    if len(found) > 1:
        (one, path), (other, another) = found.items()
        raise DatasetError(
            f"slices lie along axis {one} in one dataset.json, and along axis {other} in another.",
            f"{path} and {another}",
            "Write the same slice_axis into both; where it is left out, it is 2.",
        )


def _require_askable(settings: Settings, path: Path) -> None:
    problems = []
    for constraint in settings.constraints:
        asked = constraint.asked
        if asked.family == "box":
            problems.append(Problem("box is not offered with nnU-Net.", str(path), ELSEWHERE))
        elif QUANTITIES[asked.family].reads_image:
            what = f"{asked.family} speaks of the file's intensities, and nnU-Net does not keep by what it scaled them."
            problems.append(Problem(what, str(path), ELSEWHERE))
        elif getattr(asked, "unit", "") in ("grid_px", "fraction"):
            problems.append(_without_grid(getattr(asked, "unit", ""), path))
    if problems:
        raise ConfigError.of(problems)


def _without_grid(unit: str, path: Path) -> Problem:
    means = {"grid_px": "pixels of boundseg's own grid", "fraction": "shares of a whole slice, of which nnU-Net crops"}
    return Problem(f"the unit {unit} counts {means[unit]}.", str(path), "Give px, mm2 or mL.")


class _Preprocessed(Dataset):
    """A dataset of which nothing but descriptions need be there."""

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(self.splits.patients)


def _preprocessed(
    path: Path, settings: Settings, description: Mapping[str, Any], cases: Collection[str]
) -> _Preprocessed:
    labels = {name: value for name, value in description["labels"].items() if name != "ignore"}
    known = set(cases)
    problems = []
    for name in {asked.from_ for c in settings.constraints if getattr(asked := c.asked, "between", None) is None}:
        for row in priors.read(path.parent / name):
            known.add(row.case)  # of test patients, whom nnU-Net does not preprocess, rows may speak as well
            if row.unit in ("grid_px", "fraction") and any(row.set == c.asked.set for c in settings.constraints):
                problems.append(_without_grid(row.unit, path.parent / name))
    if problems:
        raise ConfigError.of(problems[:1])
    return _Preprocessed(
        path.parent,
        tuple(description["channel_names"].values()),
        labels,
        description["labels"].get("ignore", max(labels.values()) + 1),
        description["file_ending"],
        description.get("slice_axis", 2) % 3,
        Splits({case: [case] for case in sorted(known)}),
    )
