"""The rows of the paper's tables as package data, and the config that each comes to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from boundseg.training.config import Config

Scale = Literal["full", "half", "quick"]
Preset = Literal["honest", "published", "text"]
Picture = Literal["bars", "curves", "annotated", "slices"]

SCALES: tuple[Scale, ...] = ("full", "half", "quick")
PRESETS: tuple[Preset, ...] = ("honest", "published", "text")
PAPER_GRID_PX = 256 * 256  # the paper's bounds are pixels of this grid
ANNOTATED = "ANNOTATED"  # in a row: the list of fully annotated volumes of its seed


@dataclass(frozen=True)
class Base:
    """What the rows of one dataset have in common; the keys of ``configs/bases/NAME.yaml``.

    Attributes:
        name: Of the file.
        target: The class that is segmented.
        dataset: What a page calls it.
        command: How such a dataset folder is made.
        presence: The label set that says in which slices the class is.
        patient: The annotated patient of the common bounds, where nobody names another; None: the first of the
            training list.
        words: What stands in capitals in a row, for each preset.
        config: Merged first.
        scales: Merged second.
        presets: Merged third, and after it the entry ``PRESET SCALE``.
    """

    name: str
    target: str
    dataset: str
    command: str
    presence: str
    patient: str | None
    words: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    presets: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """A row of a table; the keys of ``configs/TABLE/NAME.yaml``.

    Attributes:
        key: ``TABLE/NAME``, where its run folders lie.
        title: How a page calls it.
        base: Its dataset's.
        paper: The paper's DSC on its validation images; None where it has no such row.
        annotated: How many volumes are fully annotated, in rows of table 2.
        updates_of: A list of cases: train as many epochs as give the updates that these cases would give.
        config: Merged onto the base's.
        presets: Merged last.
    """

    key: str
    title: str
    base: Base
    paper: float | None = None
    annotated: int | None = None
    updates_of: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of the key, as ``--row`` takes it."""
        return self.key.split("/")[1]

    def list_name(self, seed: int) -> str | None:
        """The list of ``splits.json`` that names the fully annotated volumes."""
        return None if self.annotated is None else f"full{self.annotated}_seed{seed}"

    def content(self, folder: Path, preset: Preset, scale: Scale, seed: int) -> dict[str, Any]:
        """The config as data: base, scale, preset and row merged, its words replaced.

        Args:
            folder: The dataset folder.
            preset: Whose reading: ``honest``, ``published`` or ``text``.
            scale: ``full`` is the paper's protocol; ``half`` and ``quick`` are reductions for a CPU.
            seed: Of the training, and of the list of annotated volumes.
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
        words = {**base.words[preset], ANNOTATED: self.list_name(seed)}
        found: dict[str, Any] = _replaced(merged, words)
        size = found["data"]["size"]
        _rescale(found, size[0] * size[1] / PAPER_GRID_PX)
        found["data"]["folder"] = str(folder)
        return found | {"seed": seed}

    def resolve(self, folder: Path, preset: Preset, scale: Scale, seed: int) -> Config:
        """The config, checked; raises ConfigError where the parts do not go together."""
        return Config.parse(self.content(folder, preset, scale, seed), f"{self.key}, preset {preset}, scale {scale}")


@dataclass(frozen=True)
class Table:
    """A table or figure, and its rows in the paper's order."""

    name: str
    title: str
    rows: tuple[Row, ...]
    picture: Picture = "bars"


@cache
def tables() -> dict[str, Table]:
    """Every table and figure that is made of trainings."""
    return {
        name: Table(name, asked["title"], tuple(map(row, asked["rows"])), asked.get("picture", "bars"))
        for name, asked in _read("tables").items()
    }


@cache
def row(key: str) -> Row:
    """A row by its key."""
    content = _read(key)
    return Row(key, **(content | {"base": base(content["base"])}))


@cache
def base(name: str) -> Base:
    """What the rows of a dataset have in common."""
    return Base(name, **_read(f"bases/{name}"))


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
            return merge(words[content["use"]], {key: value for key, value in content.items() if key != "use"})
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
            asked = constraint["size"]
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
