"""A training as data: YAML in, checked, every default written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from boundseg.asked.constraints import ConstraintConfig
from boundseg.asked.problems import problem
from boundseg.asked.section import Count, NotNegative, Positive, Section
from boundseg.errors import ConfigError
from boundseg.gated_crf import GatedCrf, Kernel
from boundseg.training.config.augment import require_grid
from boundseg.training.config.data import DataConfig
from boundseg.training.config.method import METHODS, MethodConfig, PenaltyConfig
from boundseg.training.config.training import TrainingConfig


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
    """Who is taught by what. ``labels``: ``full``, a weak set's name, or ``none``.

    The first entry that names a case teaches it; with ``again``, later entries that name it do so too, and an epoch
    shows it once for each.
    """

    cases: str | list[str] = "train"
    labels: str
    constraints: list[ConstraintConfig] = Field(default_factory=list)
    again: bool = False

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


class SelectionConfig(Section):
    """Which epoch's weights are ``best``: ``weak`` (lowest objective on held-out weak labels and bounds), ``dice``
    (highest DSC of volumes on held-out full masks), ``slice_dice`` (of slices, as the paper does: one that is empty
    and predicted empty counts 1) or ``last``.

    Attributes:
        every: How many epochs pass from one validation to the next; the last epoch is always validated.
    """

    by: Literal["weak", "dice", "slice_dice", "last"] = "weak"
    cases: str = "validation"
    every: Count = 1

    @property
    def by_masks(self) -> str | None:
        """The beginning of the columns of ``metrics.csv`` whose mean is to be the highest; None: no mask chooses."""
        return {"dice": "validation dice: ", "slice_dice": "validation slice dice: "}.get(self.by)

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 0, is validated."""
        return (epoch + 1) % self.every == 0 or epoch == epochs - 1


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

    @model_validator(mode="after")
    def _validated_in_time(self) -> Config:
        """Who waits for an improvement has to be told of it."""
        schedule, every = self.training.schedule, self.selection.every
        waits = {"training.stop_after": self.training.stop_after}
        if schedule.name == "plateau":
            waits["training.schedule.patience"] = schedule.patience
        for key, patience in waits.items():
            if patience is not None and patience < every:
                raise ValueError(
                    f"selection.every is {every}: an improvement is seen only then, and {key} waits {patience} epochs "
                    f"for one; validate more often, or wait longer"
                )
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Config:
        """Reads a YAML file; ``overrides`` are texts such as ``training.epochs=5``.

        A relative ``data.folder`` is one beside the config file, or else of the working directory; so are the weights
        of ``training.start_from``.

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
        config = cls.parse(overridden(content, overrides), str(path))
        beside = path.parent / config.data.folder
        if not config.data.folder.is_absolute() and beside.is_dir():
            config = config.model_copy(update={"data": config.data.model_copy(update={"folder": beside})})
        start = config.training.start_from
        if start and not start.weights.is_absolute() and (path.parent / start.weights).exists():
            return config.starting_from(path.parent / start.weights)
        return config

    def starting_from(self, weights: Path) -> Config:
        """The same with another place of the weights to start from."""
        assert self.training.start_from is not None
        start = self.training.start_from.model_copy(update={"weights": weights})
        return self.model_copy(update={"training": self.training.model_copy(update={"start_from": start})})

    @property
    def absolute(self) -> Config:
        """The same with absolute paths, as the run folder keeps it."""
        config = self.model_copy(update={"data": self.data.model_copy(update={"folder": self.data.folder.resolve()})})
        start = config.training.start_from
        return config.starting_from(start.weights.resolve()) if start else config

    @classmethod
    def parse(cls, content: Mapping[str, Any], where: str = "the config") -> Config:
        """Checks what was read; raises ConfigError with every problem."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError.of(problem(detail, where, cls, METHODS) for detail in error.errors()) from None

    def dump(self) -> str:
        """The whole config as YAML, defaults included."""
        content = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)


def overridden(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """What a config file holds with other values, by texts such as ``training.epochs=5``.

    Raises:
        ConfigError: A text that is no override, or one whose key has no place in the content.
    """
    found = deepcopy(dict(content))
    for text in overrides:
        _override(found, text)
    return found


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
