"""The rows of the paper's tables as package data, and the config that each comes to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from boundseg.training.config import Config, overridden

Scale = Literal["full", "half", "quick"]
Preset = Literal["honest", "published", "text"]
Picture = Literal["bars", "curves", "over", "slices"]
Unit = Literal["volumes", "patients"]
Beside = Literal["paper", "elsewhere"] | None

SCALES: tuple[Scale, ...] = ("full", "half", "quick")
PRESETS: tuple[Preset, ...] = ("honest", "published", "text")
PAPER_GRID_PX = 256 * 256  # the paper's bounds are pixels of this grid
DRAWN = "DRAWN"  # in a row: the list of its seed


@dataclass(frozen=True)
class Base:
    """What the rows of one dataset have in common; the keys of ``configs/bases/NAME.yaml``.

    Attributes:
        name: Of the file.
        targets: The classes that are segmented; figures of several are their means.
        dataset: What a page calls it.
        command: How such a dataset folder is made.
        presence: The label set that says in which slices the class is.
        patient: The annotated patient of the common bounds, where nobody names another; None: the first of the
            training list.
        held_back: The share of all volumes that the paper validates on, by which it splits.
        words: What stands in capitals in a row, for each preset; the entry ``PRESET SCALE`` goes before it.
        config: Merged first.
        scales: Merged second.
        presets: Merged third, and after it the entry ``PRESET SCALE``.
    """

    name: str
    targets: tuple[str, ...]
    dataset: str
    command: str
    presence: str
    patient: str | None
    held_back: float
    words: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    presets: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A list of ``splits.json`` that a row's seed draws of those who train.

    Attributes:
        count: How many.
        of: Volumes, each of another patient as long as there are patients; or patients with all their volumes.
    """

    count: int
    of: Unit

    def name(self, seed: int) -> str:
        """Of the list."""
        return f"{'full' if self.of == 'volumes' else 'patients'}{self.count}_seed{seed}"


@dataclass(frozen=True)
class Row:
    """A row of a table; the keys of ``configs/TABLE/NAME.yaml``.

    Attributes:
        key: ``TABLE/NAME``, where its run folders lie.
        title: How a page calls it.
        base: Its dataset's.
        paper: The paper's DSC on its validation images; None where it has no such row.
        elsewhere: What others published for the same data, in words.
        drawn: Who teaches, or is fully annotated, where the seed draws them.
        full_updates: Train as many epochs as give the updates that all who train would give.
        series: Rows that a picture over something joins by a line.
        at: Where on its axis; None: a horizontal line.
        config: Merged onto the base's.
        presets: Merged last.
    """

    key: str
    title: str
    base: Base
    paper: float | None = None
    elsewhere: str = ""
    drawn: Drawn | None = None
    full_updates: bool = False
    series: str = ""
    at: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of the key, as ``--row`` takes it."""
        return self.key.split("/")[1]

    def resolve(self, folder: Path, preset: Preset, scale: Scale, seed: int, overrides: Sequence[str] = ()) -> Config:
        """The config: base, scale, preset and row merged, its words replaced, other values set, and checked.

        Bounds in pixels of the paper's grid become those of the grid that is asked for; bounds that are set stay as
        they are set.

        Args:
            folder: The dataset folder.
            preset: Whose reading: ``honest``, ``published`` or ``text``.
            scale: ``full`` is the paper's protocol; ``half`` and ``quick`` are reductions for a CPU.
            seed: Of the training, and of the list that is drawn.
            overrides: As for :meth:`boundseg.training.config.Config.load`.

        Raises:
            ConfigError: An override that is none, or parts that do not go together.
        """
        base = self.base
        merged: dict[str, Any] = {}
        for part in (
            base.config,
            base.scales[scale],
            base.presets.get(preset, {}),
            base.presets.get(f"{preset} {scale}", {}),
            self.config,
            self.presets.get(preset, {}),
        ):
            merged = merge(merged, part)
        words = merge(base.words[preset], base.words.get(f"{preset} {scale}", {}))
        words[DRAWN] = self.drawn.name(seed) if self.drawn else None
        found: dict[str, Any] = _replaced(merged, words)
        found["data"]["folder"] = str(folder)
        found["seed"] = seed
        where = f"{self.key}, preset {preset}, scale {scale}"
        size = Config.parse(overridden(found, overrides), where).data.size
        _rescale(found, size[0] * size[1] / PAPER_GRID_PX)
        return Config.parse(overridden(found, overrides), where)


@dataclass(frozen=True)
class Table:
    """A table or figure, and its rows in the paper's order.

    Attributes:
        name: As it is asked for.
        title: Of its page.
        rows: In their order.
        picture: What is drawn of it.
        over: What the axis of a picture ``over`` says.
        about: Of a table beyond the paper: the question that it asks.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    picture: Picture = "bars"
    over: str = ""
    about: str = ""

    @property
    def of_paper(self) -> bool:
        """Whether the paper has it."""
        return not self.about

    @property
    def beside(self) -> Beside:
        """Whose figures stand beside ours: the paper's, in its own tables; anybody else's; nobody's."""
        return "paper" if self.of_paper else "elsewhere" if any(row.elsewhere for row in self.rows) else None


@cache
def tables() -> dict[str, Table]:
    """Every table and figure that is made of trainings."""
    return {
        name: Table(name, **(asked | {"rows": tuple(map(row, asked["rows"]))}))
        for name, asked in _read("tables").items()
    }


@cache
def row(key: str) -> Row:
    """A row by its key."""
    content = _read(key)
    found = content | {"base": base(content["base"])}
    for of, count in content.get("drawn", {}).items():
        found["drawn"] = Drawn(count, of)
    return Row(key, **found)


@cache
def base(name: str) -> Base:
    """What the rows of a dataset have in common."""
    content = _read(f"bases/{name}")
    return Base(name, **(content | {"targets": tuple(content["targets"])}))


def text_of(key: str) -> str:
    """A row's file as it stands, with its claim."""
    return (files("boundseg.paper") / "configs" / f"{key}.yaml").read_text(encoding="utf-8")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two configs as one: tables are merged key by key, everything else is replaced, and ``null`` takes a key out."""
    found = dict(deepcopy(under))
    for key, value in over.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            below = found.get(key)
            found[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            found[key] = deepcopy(value)
    return found


def _replaced(content: Any, words: Mapping[str, Any]) -> Any:
    """The same with every word in capitals replaced; ``{use: WORD, …}`` is the word's table with keys changed."""
    if isinstance(content, Mapping):
        if "use" in content:
            changed = {key: _replaced(value, words) for key, value in content.items() if key != "use"}
            return merge(words[content["use"]], changed)
        return {key: _replaced(value, words) for key, value in content.items()}
    if isinstance(content, list):
        return [_replaced(value, words) for value in content]
    if isinstance(content, str) and re.fullmatch(r"[A-Z]+", content) and content in words:
        return words[content]
    return content


def _rescale(content: Mapping[str, Any], factor: float) -> None:
    """Bounds in pixels of the paper's grid as pixels of a coarser grid that shows the same part of a slice."""
    for entry in content["supervision"]:
        for constraint in entry.get("constraints", ()):
            asked = constraint.get("size", {})
            if asked.get("unit") == "grid_px":
                for side in ("present", "absent"):
                    # tags say one pixel, whatever the grid
                    asked[side] = [b if b is None or b <= 1 else round(b * factor, 2) for b in asked[side]]


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(text_of(name))
    return content


@cache
def differences(preset: Preset) -> dict[str, Any]:
    """What a preset does otherwise than the paper, in words: ``chosen``, ``not expressed``, ``switch``."""
    found: dict[str, Any] = _read("differences")[preset]
    return found
