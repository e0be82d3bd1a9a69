"""One augmentation in a config, and all of them together: ``training.augment``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_serializer, model_validator

from boundseg.asked.section import NotNegative, Positive, Section, Share
from boundseg.data.augment import AUGMENTATIONS, Elastic, Even, IntensityChange, Noise, Warp
from boundseg.data.augment.intensity import NONE
from boundseg.data.batches import Batch
from boundseg.nearest import did_you_mean

Range = tuple[Positive, Positive]


class ExactConfig(Section):
    """``mirror`` or ``transpose``, each with probability ½."""


class RotateConfig(Section):
    """Turns by up to so many degrees either way, about the grid's centre, in mm."""

    degrees: Annotated[float, Field(gt=0, le=180)]
    probability: Share = 1.0


class ScaleConfig(Section):
    """Zooms by a factor between two, in both directions alike; its logarithm is drawn evenly."""

    zoom: Range
    probability: Share = 1.0

    @model_validator(mode="after")
    def _order(self) -> ScaleConfig:
        _require_order("zoom", self.zoom)
        return self


class ShiftConfig(Section):
    """Shifts by up to so many pixels of the grid either way, along both axes."""

    pixels: Positive
    probability: Share = 1.0


class ElasticConfig(Section):
    """Bends; see :class:`boundseg.data.augment.Elastic`. Both lengths are in pixels of the grid."""

    displacement: Positive
    spacing: Positive = 32.0
    probability: Share = 1.0

    @model_validator(mode="after")
    def _does_not_fold(self) -> ElasticConfig:
        _ = self.built
        return self

    @property
    def built(self) -> Elastic:
        """The bending itself."""
        return Elastic(self.displacement, self.spacing, self.probability)


class IntensityConfig(Section):
    """Contrast by up to ± ``gain``, brightness by up to ± ``shift`` prepared units, a power in a range ``gamma``."""

    gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shift: NotNegative = 0.0
    gamma: Range | None = None
    probability: Share = 1.0

    @model_validator(mode="after")
    def _something(self) -> IntensityConfig:
        if not self.gain and not self.shift and self.gamma is None:
            raise ValueError("give a gain, a shift or a gamma.")
        if self.gamma is not None:
            _require_order("gamma", self.gamma)
        return self


class NoiseConfig(Section):
    """Normal noise of that standard deviation, in units of the prepared intensity."""

    std: Positive
    probability: Share = 1.0


class AugmentationConfig(Section):
    """One augmentation, headed by its name: ``mirror``, ``rotate: 15``, ``rotate: {degrees: 15, probability: 0.5}``."""

    mirror: ExactConfig | None = None
    transpose: ExactConfig | None = None
    rotate: RotateConfig | None = None
    scale: ScaleConfig | None = None
    shift: ShiftConfig | None = None
    elastic: ElasticConfig | None = None
    intensity: IntensityConfig | None = None
    noise: NoiseConfig | None = None

    @property
    def name(self) -> str:
        """Its name."""
        (name,) = (name for name in type(self).model_fields if getattr(self, name) is not None)
        return name

    @property
    def options(self) -> dict[str, Any]:
        """What stands under the name."""
        content: dict[str, Any] = getattr(self, self.name).model_dump(mode="json")
        return content

    def __str__(self) -> str:
        options = {name: value for name, value in self.options.items() if value is not None}
        return self.name + (f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else "")

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, content: Any) -> Any:
        """A name alone, or a name with its first option alone."""
        content = {content: {}} if isinstance(content, str) else content
        if not isinstance(content, Mapping):
            return content
        unknown = [name for name in content if name not in cls.model_fields]
        if unknown or len(content) != 1:
            known = ", ".join(cls.model_fields)
            fact = (
                f"{unknown[0]!r} is no augmentation{did_you_mean(str(unknown[0]), cls.model_fields)}"
                if unknown
                else "an augmentation is headed by one name; begin a new one with '- '."
            )
            raise ValueError(f"{fact} There are {known}.")
        ((name, options),) = content.items()
        first = {"rotate": "degrees", "scale": "zoom", "shift": "pixels", "elastic": "displacement", "noise": "std"}
        short = name in first and not isinstance(options, (Mapping, Section))
        return {name: {first[name]: options} if short else options}

    @model_serializer(mode="plain")
    def _as_written(self) -> Any:
        return {self.name: self.options} if self.options else self.name


def _require_order(name: str, pair: Range) -> None:
    if pair[0] > pair[1]:
        raise ValueError(f"{name}: {pair[0]:g} exceeds {pair[1]:g}.")


def _each_once(steps: list[AugmentationConfig]) -> list[AugmentationConfig]:
    names = [step.name for step in steps]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{' and '.join(twice)} is named twice: say it once.")
    return steps


AugmentConfig = Annotated[list[AugmentationConfig], AfterValidator(_each_once)]


def of_name(steps: Sequence[AugmentationConfig], name: str) -> Any:
    """What stands under a name; None where nobody asked for it."""
    return next((getattr(step, name) for step in steps if step.name == name), None)


def require_grid(steps: Sequence[AugmentationConfig], size: Sequence[int]) -> None:
    """Refuses what cannot be done on a grid.

    Raises:
        ValueError: What interpolates, of volumes; a transpose of what is not square; or control points of which none
            lies inside.
    """
    flat = [name for name in ("rotate", "scale", "shift", "elastic") if of_name(steps, name)]
    if len(size) == 3 and flat:
        raise ValueError(
            f"training.augment: {' and '.join(flat)} moves slices, and data.size has three axes: volumes and patches "
            "take mirror, transpose, intensity and noise."
        )
    if of_name(steps, "transpose") and size[0] != size[1]:
        raise ValueError(f"training.augment: transpose needs a square grid, and images are of {tuple(size)}.")
    if elastic := of_name(steps, "elastic"):
        try:
            elastic.built.cells(min(size))
        except ValueError as error:
            raise ValueError(f"training.augment: elastic.spacing: {error}.") from None


def warp(steps: Sequence[AugmentationConfig], ignore: int, complete: Sequence[bool]) -> Warp | None:
    """Whatever moves the grid by a number that is no whole one; None where nothing does."""
    rotate, scale, shift, elastic = (of_name(steps, name) for name in ("rotate", "scale", "shift", "elastic"))
    if not (rotate or scale or shift or elastic):
        return None
    return Warp(
        ignore,
        tuple(complete),
        Even(-rotate.degrees, rotate.degrees, rotate.probability) if rotate else NONE,
        _logarithm(scale.zoom, scale.probability) if scale else NONE,
        Even(-shift.pixels, shift.pixels, shift.probability) if shift else NONE,
        elastic.built if elastic else None,
    )


def augmentations(
    steps: Sequence[AugmentationConfig], ignore: int, complete: Sequence[bool]
) -> list[Callable[[Batch], Batch]]:
    """The augmentations themselves: exact ones in their order, then one warp, then intensities.

    Args:
        steps: Of the config.
        ignore: The label of voxels of which nothing is known.
        complete: For each class, whether it is declared to keep clear of what a warp moves out of the grid.
    """
    found: list[Callable[[Batch], Batch]] = [AUGMENTATIONS[s.name] for s in steps if s.name in AUGMENTATIONS]
    if moves := warp(steps, ignore, complete):
        found.append(moves)
    if change := of_name(steps, "intensity"):
        p, powers = change.probability, change.gamma
        found.append(
            IntensityChange(
                Even(-change.gain, change.gain, p),
                Even(-change.shift, change.shift, p),
                _logarithm(powers, p) if powers else NONE,
            )
        )
    if noise := of_name(steps, "noise"):
        found.append(Noise(noise.std, noise.probability))
    return found


def _logarithm(pair: Range, probability: float) -> Even:
    return Even(math.log(pair[0]), math.log(pair[1]), probability)
