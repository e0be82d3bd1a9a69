"""One constraint in a config: what is measured, what is known about it, what a violation costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from boundseg.asked.section import Count, NotNegative, Positive, Section, Share, Side
from boundseg.constraints import PENALTIES, QUANTITIES, Penalty, Relative, Scale, Voxels, needs, priced
from boundseg.constraints import descriptor as descriptor_of
from boundseg.nearest import did_you_mean


class AskedConfig(Section):
    """What all constraints say: of which class, from where, and what a violation costs.

    Attributes:
        class_: A class, a union (``LV+Myo``) or an ordered pair (``LV:Myo``).
        from_: A priors.csv of the dataset folder.
        set: Which of its rows.
        penalty: The name of a penalty.
        scale: By what violations are measured: ``image``, ``relative`` (with ``floor``), or a number in the unit of
            the bounds, for ``quadratic`` in the unit squared.
        softening: Instead of a scale, prepared pixels; for penalties of sizes that take them.
        tolerance: Of ``relative_band``.
        sharpness: Of the probabilities that are measured, see :class:`boundseg.constraints.Constraint`.
        weight: The factor λ.
        warm_up: Epochs over which the weight grows from 0; left out, the training's.
    """

    class_: str = Field(alias="class")
    from_: str = Field("priors.csv", alias="from")
    set: str | None = None
    penalty: str = "quadratic"
    scale: Literal["image", "relative"] | Positive | None = None
    floor: Positive | None = None
    softening: Positive | None = None
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    sharpness: Annotated[float, Field(ge=1)] = 1.0
    weight: NotNegative = 0.01
    warm_up: Annotated[int, Field(ge=0)] | None = None

    family: ClassVar[str]  # the name above it
    counted: ClassVar[bool] = False  # whether voxels add up to the value

    @property
    def quantity(self) -> str:
        """The name under which priors.csv and reports know it."""
        return self.family

    @field_validator("penalty")
    @classmethod
    def _known_penalty(cls, name: str) -> str:
        if name not in PENALTIES:
            raise ValueError(f"{name!r} is no penalty{did_you_mean(name, PENALTIES)} There are {', '.join(PENALTIES)}.")
        return name

    @model_validator(mode="before")
    @classmethod
    def _default_scale(cls, content: Any) -> Any:
        """What a penalty is scaled by where nothing was said, so that the run's config says it."""
        if not isinstance(content, Mapping):
            return content
        penalty = content.get("penalty", "quadratic")
        if not isinstance(penalty, str) or penalty not in PENALTIES:
            return content
        if content.get("scale") is not None or content.get("softening") is not None:
            return content
        first = needs(PENALTIES[penalty]).scales[0]
        if cls.counted:
            return {**content, "softening": 10.0} if first == "voxels" else {**content, "scale": "image"}
        return content if first == "voxels" else {**content, "scale": 1.0}

    @model_validator(mode="after")
    def _scale_goes_with_the_penalty(self) -> AskedConfig:
        kinds = _kinds(self.penalty, self.counted)
        written = {"image": "scale: image", "relative": "scale: relative", "voxels": "softening (in pixels)"}
        able = " or ".join(written.get(kind, "scale: a number in the unit of the bounds") for kind in kinds)
        given = [
            *([] if self.scale is None else [self.scale if isinstance(self.scale, str) else "number"]),
            *([] if self.softening is None else ["voxels"]),
        ]
        if len(given) != 1 or given[0] not in kinds:
            told = " and ".join(written.get(kind, "scale: a number") for kind in given) or "nothing"
            raise ValueError(f"{self.penalty} takes {able} here, and was given {told}.")
        if (self.scale == "relative") != (self.floor is not None):
            raise ValueError("scale: relative goes with a floor (in the unit of the bounds), and a floor with it.")
        if self.tolerance is not None and self.penalty != "relative_band":
            raise ValueError("tolerance belongs to relative_band; widen the bounds instead.")
        return self

    @property
    def priced_by(self) -> Penalty:
        """The penalty itself."""
        penalty = PENALTIES[self.penalty]
        options = {} if self.tolerance is None else {"tolerance": self.tolerance}
        return partial(penalty, **options) if options else penalty

    @property
    def measured_by(self) -> Scale:
        """Its third argument."""
        if self.softening is not None:
            return Voxels(self.softening)
        if self.floor is not None:
            return Relative(self.floor)
        assert self.scale is not None and self.scale != "relative", "the config has checked what goes with what"
        return self.scale


def _kinds(penalty: str, counted: bool) -> list[str]:
    """The kinds of scale that a penalty takes of such values; a softening is for those that soften."""
    scales = needs(PENALTIES[penalty]).scales
    softens = scales[0] == "voxels"
    return [
        kind
        for kind in scales
        if kind in ("relative", "number") or (counted and kind == ("voxels" if softens else "image"))
    ]


def _require_order(name: str, pair: tuple[float | None, float | None] | None) -> None:
    if pair is None:
        return
    lower, upper = pair
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"{name}: the lower bound {lower:g} exceeds the upper bound {upper:g}.")


class BoundsConfig(AskedConfig):
    """Bounds on a value: ``set`` says which rows hold them, or ``between`` says them, everywhere, for each slice or
    for each volume, in ``unit``.
    """

    between: tuple[Side, Side] | None = None
    per: Literal["slice", "volume"] = "slice"
    unit: str = ""

    @property
    def sources(self) -> dict[str, bool]:
        """The keys that say what is known, and which of them were given."""
        return {"set": self.set is not None, "between": self.between is not None}

    @model_validator(mode="before")
    @classmethod
    def _default_unit(cls, content: Any) -> Any:
        return {"unit": QUANTITIES[cls.family].units[0]} | content if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _one_source(self) -> BoundsConfig:
        if sum(self.sources.values()) != 1:
            raise ValueError(f"give exactly one of: {', '.join(self.sources)}.")
        if self.set is not None and (self.unit != QUANTITIES[self.family].units[0] or self.per != "slice"):
            key = "per" if self.per != "slice" else "unit"
            told = f"{key}: beside a set it says nothing, each row of {self.from_} has its own; leave it out."
            raise ValueError(told)
        for name in ("present", "absent", "between"):
            _require_order(name, getattr(self, name, None))
        return self

    @model_validator(mode="after")
    def _measurable(self) -> BoundsConfig:
        quantity = QUANTITIES[self.family]
        if self.class_.count(":") != quantity.pair:
            two = "a pair of classes, as LV:Myo" if quantity.pair else "one class, or a union as LV+Myo"
            raise ValueError(f"class: {self.family} is of {two} (given: {self.class_!r}).")
        between = self.between
        if between is not None and between[1] is not None and between[1] < 0 and not quantity.signed:
            raise ValueError(f"between: {self.family} is never negative, and cannot be at most {between[1]:g}.")
        if self.per == "volume" and not quantity.of_volumes:
            raise ValueError(f"per: {self.family} is measured in slices; a volume of slices has none.")
        measured = descriptor_of(self.quantity, self.unit)
        # rows of priors.csv come in their own unit, and are looked at when they are there
        able = priced("share" if self.set is not None and self.family == "size" else measured.traits.domain)
        if self.penalty not in able:
            raise ValueError(f"penalty: {self.penalty} cannot price {self.family}; use {', '.join(able)}.")
        return self


class SizeConfig(BoundsConfig):
    """Bounds on a size; beside ``set`` and ``between``, ``present`` and ``absent`` by the rows of ``tags``."""

    present: tuple[Side, Side] | None = None
    absent: tuple[Side, Side] | None = None
    tags: str = "tags"

    family = "size"
    counted = True

    @property
    def sources(self) -> dict[str, bool]:
        """The keys that say what is known, and which of them were given."""
        tagged = self.present is not None or self.absent is not None
        return {"set": self.set is not None, "present / absent": tagged, "between": self.between is not None}


class _AlongAxis(BoundsConfig):
    axis: Literal["x", "y", "z"]

    @property
    def quantity(self) -> str:
        """The name under which priors.csv knows it."""
        return f"{self.family}_{self.axis}"


class CentroidConfig(_AlongAxis):
    """Bounds on a centroid's coordinate, counted from the centre of the file's first voxel."""

    family = "centroid"


class SpreadConfig(_AlongAxis):
    """Bounds on a region's standard deviation along an axis of the file."""

    family = "spread"


class MomentConfig(BoundsConfig):
    """Bounds on a central moment that does not change with position and scale; ``axes: xxy`` is of order 3."""

    axes: Annotated[str, Field(pattern="^[xyz]{2,4}$")]
    family = "moment"

    @property
    def quantity(self) -> str:
        """The name under which priors.csv knows it."""
        return f"moment_{''.join(sorted(self.axes))}"


class _OfChannel(BoundsConfig):
    channel: Annotated[int, Field(ge=0)] = 0

    @property
    def quantity(self) -> str:
        """The name under which priors.csv knows it."""
        return f"{self.family}_{self.channel}" if self.channel else self.family


class IntensityConfig(_OfChannel):
    """Bounds on the mean intensity inside of a region, in the file's intensities."""

    family = "intensity"


class IntensityVarianceConfig(_OfChannel):
    """Bounds on the variance of intensities inside of a region, in the file's intensities squared."""

    family = "intensity_variance"


class RatioConfig(BoundsConfig):
    """Bounds on the size of one class over that of another, ``LV:Myo``."""

    family = "ratio"


class DistanceConfig(BoundsConfig):
    """Bounds on the distance between the centroids of two classes, ``LV:Myo``."""

    family = "distance"


class ElongationConfig(BoundsConfig):
    """Bounds on an elongation: 0 of a disc, towards 1 of a line."""

    family = "elongation"


class BoundaryConfig(BoundsConfig):
    """Bounds on the length of a boundary, in slices."""

    family = "boundary"


class CompactnessConfig(BoundsConfig):
    """Bounds on a compactness: 1 of a disc, less of everything else."""

    family = "compactness"


class BoxConfig(AskedConfig):
    """Bounding boxes of a class, from rows ``box_x`` and ``box_y`` (first and last line, per slice) of a priors.csv.

    Attributes:
        width: Lines in a band, in pixels of the file: each band holds as many pixels of the class as it has lines.
        fill: Which share of its box the class fills; null where nothing is known.
        outside: Whether there is none of it outside.
    """

    width: Count = 5
    fill: tuple[Share | None, Share | None] | None = None
    outside: bool = True

    family = "box"
    counted = True

    @model_validator(mode="after")
    def _order(self) -> BoxConfig:
        _require_order("fill", self.fill)
        if self.penalty not in priced("amount"):
            raise ValueError(f"penalty: {self.penalty} cannot price boxes; use {', '.join(priced('amount'))}.")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_set(cls, content: Any) -> Any:
        return {"set": "box"} | content if isinstance(content, dict) else content


class ConstraintConfig(Section):
    """One constraint, headed by the name of what it measures."""

    size: SizeConfig | None = None
    ratio: RatioConfig | None = None
    centroid: CentroidConfig | None = None
    distance: DistanceConfig | None = None
    spread: SpreadConfig | None = None
    elongation: ElongationConfig | None = None
    moment: MomentConfig | None = None
    intensity: IntensityConfig | None = None
    intensity_variance: IntensityVarianceConfig | None = None
    boundary: BoundaryConfig | None = None
    compactness: CompactnessConfig | None = None
    box: BoxConfig | None = None

    @property
    def asked(self) -> BoundsConfig | BoxConfig:
        """What stands under the one name."""
        (given,) = (value for name in type(self).model_fields if (value := getattr(self, name)) is not None)
        assert isinstance(given, (BoundsConfig, BoxConfig))
        return given

    @model_validator(mode="after")
    def _one_name(self) -> ConstraintConfig:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"a constraint is headed by one name; begin a new one with '- ' ({known}).")
        return self

    @model_serializer(mode="wrap")
    def _without_the_others(self, write: Callable[[Any], Any]) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        return {name: value for name, value in content.items() if value is not None}
