"""The section ``training``: how long and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from boundseg.asked.section import Count, NotNegative, Positive, Section, Share
from boundseg.training.config.augment import AugmentConfig


class OptimizerConfig(Section):
    """Adam or AdamW. The published code uses betas of 0.9 and 0.99."""

    name: Literal["adam", "adamw"] = "adam"
    lr: Positive = 5e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0


class ScheduleConfig(Section):
    """How the learning rate changes, once an epoch.

    ``plateau``: times ``factor`` after ``patience`` epochs without improvement (the paper's text);
    ``plateau_published`` (its code): after every epoch whose number, from 0, is a multiple of (best epoch +
    ``patience``), which that of the first one is; ``cosine`` and ``poly`` (to the power 0.9): to 0 at the end;
    ``one_cycle``: from a 25th up within 30 % of the epochs, then down to next to nothing; ``constant``.
    """

    name: Literal["plateau", "plateau_published", "cosine", "poly", "one_cycle", "constant"] = "plateau"
    patience: Count = 20
    factor: Share = 0.5

    @property
    def to_an_end(self) -> bool:
        """Whether the rate of an epoch depends on how many there will be."""
        return self.name in ("cosine", "poly", "one_cycle")


STEEPEST = 1e6  # of a log-barrier, which is as good as a wall by then; t must not leave float32


class BarrierConfig(Section):
    """The steepness t of log-barriers: ``start`` in the first epoch, times ``factor`` after each, to 1e6 at most."""

    start: Annotated[float, Field(gt=0, le=STEEPEST)] = 5.0
    factor: Annotated[float, Field(ge=1)] = 1.1


class StartConfig(Section):
    """Weights to start from, instead of drawn ones; see :func:`boundseg.training.start_from.start_from`.

    Attributes:
        weights: A run folder, a checkpoint's folder, a ``.safetensors`` file, or a state dict by ``torch.save``.
        fresh: Tensors of the network, or the beginnings of their names, that start as without ``weights``.
        unused: The same of the file, of which nothing is taken.
        rename: Beginnings of the file's names, and what they are instead: ``{module.: ""}``.
    """

    weights: Path
    fresh: list[str] = Field(default_factory=list)
    unused: list[str] = Field(default_factory=list)
    rename: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, content: Any) -> Any:
        """The weights alone."""
        return {"weights": content} if isinstance(content, (str, Path)) else content


class TrainingConfig(Section):
    """How long and how.

    Attributes:
        stop_after: Epochs without improvement after which training ends.
        warm_up: Epochs over which the constraints' weights grow from 0.
        barrier: Of the penalty ``log_barrier``.
        start_from: Weights to start from, of another run or a published backbone.
        first_bias: ``expected`` starts the network at the classes' expected shares of an image (from full masks and
            bounds), ``zero`` at equal ones.
        average: Of the cross-entropy, see :func:`boundseg.losses.partial_cross_entropy`.
        augment: See :mod:`boundseg.data.augment` and ``docs/augmentation.md``.
        weight_average: Decay, per step, of a moving average of the weights, which is then what is validated, kept as
            the best and predicted with; left out, none is kept.
        compile: ``true`` compiles the network (torch.compile), ``reduce-overhead`` captures it in CUDA graphs as well.
            It takes minutes at the start, and on a CPU it gains a tenth at most (docs/performance.md).
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
    start_from: StartConfig | None = None
    first_bias: Literal["expected", "zero"] = "expected"
    average: Literal["image", "batch", "sum"] = "image"
    augment: AugmentConfig = Field(default_factory=list)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None = None
    compile: bool | Literal["reduce-overhead"] = False
    deterministic: bool = False
    channels_last: bool | None = None

    def ends_early(self, done: int, best_epoch: int) -> bool:
        """Whether ``stop_after`` ends the training after so many epochs, the best of which, from 0, is given.

        Without any best one so far, that is -1.
        """
        return self.stop_after is not None and done - best_epoch > self.stop_after
