"""What cannot be asked of batches that are divided: in chunks, over processes, or where the rest is remembered."""

from __future__ import annotations

from collections.abc import Sequence

from boundseg.constraints import Constraint
from boundseg.errors import ConfigError
from boundseg.training.config import Config
from boundseg.training.config.augment import of_name


def require_divisible(config: Config, constraints: Sequence[Constraint], processes: int) -> None:
    """Refuses methods that look at a whole batch, memories that nobody uses, and chunks that cannot be turned.

    Args:
        config: The whole of it.
        constraints: All that it asks.
        processes: How many share each step.

    Raises:
        ConfigError: What is asked needs a batch that is not divided, or divided otherwise.
    """
    of_batch = config.method.name == "proposals"
    by_batch = f"method: {config.method.name} looks at a whole batch at once" if of_batch else None
    by_process = "data.remember: each process would remember other slices" if config.data.remember else by_batch
    if by_batch and config.data.chunk is not None:
        raise ConfigError(f"{by_batch}, and data.chunk divides it.", remedy="Leave chunk out, or take another method.")
    if by_batch and config.data.remember:
        raise ConfigError(
            f"{by_batch}, and data.remember shows it parts of volumes.",
            remedy="Show whole volumes (data.batch: volumes), or take another method.",
        )
    if by_process and processes > 1:
        raise ConfigError(f"{by_process}, and there are {processes}.", remedy="Train on one device.")
    if config.data.remember and not any(constraint.scope == "volume" for constraint in constraints):
        raise ConfigError(
            "data.remember is for bounds of volumes, and none are asked.",
            remedy="Ask for some (a set of volumes, or per: volume), or leave remember out.",
        )
    _require_ends_in_place(config, constraints)


def _require_ends_in_place(config: Config, constraints: Sequence[Constraint]) -> None:
    """Refuses what turns round a chunk that shares voxels with the next: a frame knows of those at its end only."""
    chunk, size = config.data.chunk, config.data.size
    if not isinstance(chunk, tuple):
        return
    neighbours = any(constraint.descriptor.traits.neighbours for constraint in constraints)
    shared = [part < n and (neighbours or n % part != 0) for part, n in zip(chunk, size, strict=True)]
    turning = [name for name, axes in (("mirror", 3), ("transpose", 2)) if any(shared[:axes])]
    if named := [name for name in turning if of_name(config.training.augment, name)]:
        raise ConfigError(
            f"{' and '.join(named)} turns chunks round, and those of {'x'.join(map(str, chunk))} share voxels with the "
            f"next one, at one end: {'a constraint looks at neighbours' if neighbours else 'they do not divide'}"
            f"{'' if neighbours else ' ' + 'x'.join(map(str, size))}.",
            "training.augment",
            f"Take {' and '.join(named)} out"
            f"{', or the constraint' if neighbours else ', or give a data.chunk that divides data.size'}.",
        )
