"""A training as data: YAML in, checked, every default written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from boundseg.data.batches import BatchOf
from boundseg.data.patches import Patches
from boundseg.data.prepare import Fit, Grid, Intensity
from boundseg.errors import ConfigError, Problem
from boundseg.gated_crf import GatedCrf, Kernel
from boundseg.nearest import did_you_mean
from boundseg.training.augment_config import AugmentConfig, require_grid
from boundseg.training.constraint_config import ConstraintConfig
from boundseg.training.method_config import METHODS, MethodConfig, PenaltyConfig
from boundseg.training.section import Count, NotNegative, Positive, Section, Share


class DataConfig(Section):
    """What is read, and the grid on which the network sees it; see :class:`boundseg.data.prepare.Grid`.

    ``complete`` declares classes of which neither a centre crop nor an augmentation that turns, zooms or shifts leaves
    out anything, so that their bounds hold: a list of classes, or for each the largest share of a slice's pixels that
    may be left out. It is tested against every full mask there is.

    With three numbers in ``size`` the network is 3D: ``batch: volumes`` shows it whole volumes on that grid, and
    ``batch: patches`` patches of that size, as :class:`boundseg.data.patches.Patches` draws them.

    Attributes:
        chunk: How much of a batch is in memory at once: so many of its images, or, of volumes of a 3D network, a patch
            of that size. The gradient is that of the whole batch; see :mod:`boundseg.accumulate`.
        remember: With ``batch: slices``, the other slices of a volume count with what they were when they were seen
            last, so that bounds of volumes hold; see :class:`boundseg.accumulate.Streaming`.
    """

    folder: Path
    size: tuple[Count, ...] = (256, 256)
    fit: Fit = "pad"
    spacing_mm: tuple[Positive | None, ...] | None = None
    intensity: Intensity = "zscore"
    batch: BatchOf | Literal["patches"] = "slices"
    patches_per_case: Count = 4
    foreground: Share = 0.33
    chunk: Count | tuple[Count, Count, Count] | None = None
    remember: bool = False
    complete: dict[str, Share] = Field(default_factory=dict)

    @field_validator("chunk", mode="before")
    @classmethod
    def _images_or_a_patch(cls, value: Any) -> Any:
        numbers = value if isinstance(value, (list, tuple)) and len(value) == 3 else [value]
        if value is not None and not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"{value!r} is given: give a number of images, or three numbers, of a patch of a volume.")
        return value

    @field_validator("complete", mode="before")
    @classmethod
    def _list_means_no_loss(cls, value: Any) -> Any:
        return dict.fromkeys(value, 0.0) if isinstance(value, (list, tuple)) else value

    @field_validator("size", "spacing_mm")
    @classmethod
    def _of_two_axes_or_three(cls, numbers: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if numbers is not None and len(numbers) not in (2, 3):
            raise ValueError(
                f"{len(numbers)} number(s) are given: give two, of rows and columns, or slices as a third."
            )
        return numbers

    @model_validator(mode="after")
    def _one_kind_of_images(self) -> DataConfig:
        axes = len(self.size)
        if self.spacing_mm is not None and len(self.spacing_mm) != axes:
            raise ValueError(f"size has {axes} axes and spacing_mm {len(self.spacing_mm)}: give both the same.")
        if axes == 2 and self.batch == "patches":
            raise ValueError("batch: patches cuts volumes, and size has two numbers: give rows, columns and slices.")
        if axes == 3 and self.batch == "slices":
            raise ValueError(
                "batch: slices has no use for a third number in size: give two, or choose batch: patches or volumes, "
                "for a 3D network."
            )
        if self.batch == "patches" and self.fit != "pad":
            raise ValueError(f"batch: patches cuts from whole volumes, which fit: {self.fit} is not for: use pad.")
        if self.batch == "patches" and self.complete:
            raise ValueError(
                "complete says what a crop keeps, and batch: patches crops nothing: take it out. Which patch holds all "
                "of a case is known."
            )
        if isinstance(self.chunk, tuple) and not (axes == 3 and self.batch == "volumes"):
            raise ValueError(
                "chunk: three numbers are a patch of a volume: give batch: volumes and a size of three numbers, or a "
                "number of images."
            )
        if isinstance(self.chunk, tuple) and any(c > n for c, n in zip(self.chunk, self.size, strict=True)):
            raise ValueError(
                f"chunk: patches of {list(self.chunk)} do not fit into {list(self.size)}: use smaller ones."
            )
        if self.remember and (self.batch != "slices" or self.chunk is not None):
            raise ValueError(
                "remember stands in for slices that a batch does not hold: it goes with batch: slices, without chunk."
            )
        return self

    @property
    def grid(self) -> Grid:
        """The grid of the prepared slices or volumes."""
        size, spacing_mm = _lengths(self.size), None if self.spacing_mm is None else _lengths(self.spacing_mm)
        return Grid(size, self.fit, spacing_mm, self.intensity, patches=self.batch == "patches")

    @property
    def window(self) -> Any:
        """What a 3D network sees at once; of a 2D one, None."""
        if len(self.size) == 2:
            return None
        return self.chunk if isinstance(self.chunk, tuple) else self.size

    @property
    def drawn(self) -> BatchOf | Patches:
        """What a batch is made of."""
        if self.batch == "patches":
            return Patches(_lengths(self.size), self.patches_per_case, self.foreground)
        return self.batch


def _lengths(numbers: tuple[Any, ...]) -> Any:
    """Two or three, as was checked."""
    return numbers


class NetworkConfig(BaseModel):
    """A network's name; every other key but ``spare_outputs`` is an option of that network.

    Attributes:
        spare_outputs: Outputs beside those of the classes, which no label and no bound ever asks for. A softmax over
            more outputs than classes lets different kinds of background be different outputs; a voxel that is
            most probably one of them is background. The paper's published code trains the heart with two.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "enet"
    spare_outputs: Annotated[int, Field(ge=0)] = 0

    @property
    def options(self) -> dict[str, Any]:
        """What is handed to the network beside its channels and classes."""
        return dict(self.model_extra or {})


class SupervisionConfig(Section):
    """Who is taught by what. ``labels``: ``full``, a weak set's name, or ``none``."""

    cases: str | list[str] = "train"
    labels: str
    constraints: list[ConstraintConfig] = Field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The lists, patients or cases that this entry speaks of."""
        return [self.cases] if isinstance(self.cases, str) else self.cases


class GatedCrfConfig(Section):
    """Neighbours that look alike should be of one class; see :mod:`boundseg.gated_crf`.

    Attributes:
        weight: The factor on the energy per pixel.
        radius: Of the window, in pixels of the prepared grid.
        sigma_position: Over how many such pixels neighbours are tied.
        sigma_intensity: Which difference of prepared intensities unties them. The paper's 0.1 is for ``minmax``.
    """

    weight: NotNegative
    sigma_intensity: Positive
    radius: Count = 5
    sigma_position: Positive = 6.0


class RegulariseConfig(Section):
    """What is asked of a prediction beside labels and bounds."""

    gated_crf: GatedCrfConfig | None = None

    def gated_crf_term(self, classes: int) -> GatedCrf | None:
        """The term itself, for so many classes."""
        asked = self.gated_crf
        if asked is None:
            return None
        kernel = Kernel(sigma_position=asked.sigma_position, sigma_intensity=asked.sigma_intensity)
        return GatedCrf(asked.weight, (kernel,), asked.radius, classes)


class OptimizerConfig(Section):
    """Adam or AdamW. The published code uses betas of 0.9 and 0.99."""

    name: Literal["adam", "adamw"] = "adam"
    lr: Positive = 5e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0


class ScheduleConfig(Section):
    """How the learning rate changes, once an epoch.

    ``plateau``: times ``factor`` after ``patience`` epochs without improvement (the paper's); ``cosine`` and ``poly``
    (to the power 0.9): to 0 at the end; ``one_cycle``: from a 25th up within 30 % of the epochs, then down to next to
    nothing; ``constant``.
    """

    name: Literal["plateau", "cosine", "poly", "one_cycle", "constant"] = "plateau"
    patience: Count = 20
    factor: Share = 0.5


STEEPEST = 1e6  # of a log-barrier, which is as good as a wall by then; t must not leave float32


class BarrierConfig(Section):
    """The steepness t of log-barriers: ``start`` in the first epoch, times ``factor`` after each, to 1e6 at most."""

    start: Annotated[float, Field(gt=0, le=STEEPEST)] = 5.0
    factor: Annotated[float, Field(ge=1)] = 1.1


class TrainingConfig(Section):
    """How long and how.

    Attributes:
        stop_after: Epochs without improvement after which training ends.
        warm_up: Epochs over which the constraints' weights grow from 0.
        barrier: Of the penalty ``log_barrier``.
        first_bias: ``expected`` starts the network at the classes' expected shares of an image (from full masks and
            bounds), ``zero`` at equal ones.
        average: Of the cross-entropy, see :func:`boundseg.losses.partial_cross_entropy`.
        augment: See :mod:`boundseg.data.augment` and ``docs/augmentation.md``.
        weight_average: Decay, per step, of a moving average of the weights, which is then what is validated, kept as
            the best and predicted with; left out, none is kept.
        compile: ``true`` compiles the network (torch.compile), ``reduce-overhead`` captures it in CUDA graphs as well.
            It takes minutes at the start, and on a CPU it does not pay (docs/performance.md).
        deterministic: Only operations whose results do not depend on chance, so that a GPU gives the same weights
            twice as well; a CPU does so anyway, with the same number of threads.
        channels_last: The memory layout; left out, on GPUs only (on a CPU it gains ENet little or
            nothing: docs/performance.md).
    """

    epochs: Count = 200
    batch_size: Count = 1
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    stop_after: Count | None = None
    warm_up: Annotated[int, Field(ge=0)] = 0
    barrier: BarrierConfig = BarrierConfig()
    first_bias: Literal["expected", "zero"] = "expected"
    average: Literal["image", "batch", "sum"] = "image"
    augment: AugmentConfig = Field(default_factory=list)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None = None
    compile: bool | Literal["reduce-overhead"] = False
    deterministic: bool = False
    channels_last: bool | None = None


class SelectionConfig(Section):
    """Which epoch's weights are ``best``: ``weak`` (lowest objective on held-out weak labels and bounds), ``dice``
    (highest DSC on held-out full masks, as the paper does) or ``last``."""

    by: Literal["weak", "dice", "last"] = "weak"
    cases: str = "validation"


class Config(Section):
    """A whole training; see ``docs/config.md``."""

    data: DataConfig
    network: NetworkConfig = NetworkConfig()
    supervision: Annotated[list[SupervisionConfig], Field(min_length=1)]
    method: MethodConfig = PenaltyConfig()
    regularise: RegulariseConfig = RegulariseConfig()
    training: TrainingConfig = TrainingConfig()
    selection: SelectionConfig = SelectionConfig()
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _augmentable(self) -> Config:
        require_grid(self.training.augment, self.data.window or self.data.size)
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Config:
        """Reads a YAML file; ``overrides`` are texts such as ``training.epochs=5``.

        A relative ``data.folder`` is one beside the config file, or else of the working directory.

        Raises:
            ConfigError: The file cannot be read, or keys or values are wrong; all of them are listed.
        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f"{path.name} is not there.", str(path.parent), "Check the path of the config.")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path.name} is not valid YAML: {error}", str(path.parent), "Mend it.") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path.name} holds no keys.", str(path.parent), "See docs/config.md.")
        for override in overrides:
            _override(content, override)
        config = cls.parse(content, str(path))
        beside = path.parent / config.data.folder
        if not config.data.folder.is_absolute() and beside.is_dir():
            return config.model_copy(update={"data": config.data.model_copy(update={"folder": beside})})
        return config

    @classmethod
    def parse(cls, content: Mapping[str, Any], where: str = "the config") -> Config:
        """Checks what was read; raises ConfigError with every problem."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError.of(_problem(detail, where) for detail in error.errors()) from None

    def dump(self) -> str:
        """The whole config as YAML, defaults included."""
        content = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def _override(content: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r} has no '='.", remedy="Write it as key=value, e.g. training.epochs=5.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML.", remedy="Quote it.") from error
    place: Any = content
    *parents, last = key.split(".")
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[int(last) if isinstance(place, list) else last] = parsed
    except (ValueError, IndexError, TypeError, AttributeError):
        raise ConfigError(
            f"--set {text!r}: there is no place {key!r}.", remedy="Name keys, and count list entries from 0."
        ) from None


def _problem(detail: Any, where: str) -> Problem:
    location: tuple[str | int, ...] = detail["loc"]
    # pydantic names the kind of method as if it were a key
    path = ".".join(
        str(step) for i, step in enumerate(location) if not (step in METHODS and location[:i] == ("method",))
    )
    if detail["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in _section_at(location[:-1]).model_fields.items()]
        near = did_you_mean(str(location[-1]), known)
        return Problem(f"unknown key {path!r}{near}", where, f"The keys there are: {', '.join(known)}.")
    message = detail["msg"].removeprefix("Value error, ")
    path = f"{path}: " if path else ""
    given = "" if detail["type"] in ("missing", "value_error") else f" (given: {detail['input']!r})"
    return Problem(f"{path}{message}{given}", where)


def _section_at(location: Sequence[str | int]) -> type[BaseModel]:
    """The section of the config to which a location of pydantic's leads."""
    sections: list[type[BaseModel]] = [Config]
    for step in location:
        # the kind of a method is a step of its own
        named = [
            s for s in sections if "name" in s.model_fields and step in get_args(s.model_fields["name"].annotation)
        ]
        field = next((f for n, f in sections[0].model_fields.items() if step in (n, f.alias)), None)
        sections = named or (_sections_in(field.annotation) if field is not None else []) or sections
    return sections[0]


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (list, Union, UnionType, Annotated):
        return [found for part in get_args(annotation) for found in _sections_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
