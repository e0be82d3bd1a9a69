"""Same seed, same machine, same weights, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from boundseg.errors import ConfigError

_NONE_FOUND = "does not have a deterministic implementation"  # how torch's refusals read


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Lets torch use operations only whose results do not depend on chance; what was set before comes back afterwards.

    Raises:
        ConfigError: Something in the training has no such form on this device.
    """
    if not asked:
        yield
        return
    before, tuned = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    # read by cuBLAS when it begins; without it, torch refuses matrix products
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # which picks by times
    try:
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(_NONE_FOUND)
        if not found:
            raise
        raise ConfigError(
            f"{operation.strip()} has no deterministic form on this device.",
            "training.deterministic",
            "Leave it out, or use another network or constraint.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = tuned
