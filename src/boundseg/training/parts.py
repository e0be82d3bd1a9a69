"""What is asked of whole volumes and does not hold of the parts that a training shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console

from boundseg.data.taught import TaughtCase
from boundseg.training.config import Config
from boundseg.training.supervision import Teaching


def not_held(config: Config, teaching: Teaching) -> list[str]:
    """A sentence for each bound of volumes that batches of slices leave out, in whole or in its lower sides.

    Of a part of a volume, the upper bound of what grows with it holds, and nothing else does.
    """
    if config.data.batch != "slices" or config.data.remember:
        return []
    remedy = "in batches of slices; set data.batch: volumes or data.remember: true"
    found = []
    for constraint in teaching.constraints:
        # of a picture, one slice is the whole volume
        several = [case for case in teaching.train if len(case.prepared.images) > 1]
        if constraint.scope != "volume" or not several:
            continue
        grows = constraint.descriptor.traits.grows
        if any(_left_out(case, constraint.name, grows) for case in several):
            found.append(f"{constraint.name}: its {'lower bounds do' if grows else 'bounds do'} not hold {remedy}")
    return found


def _left_out(case: TaughtCase, name: str, grows: bool) -> bool:
    lower, upper = case.bounds[name]
    # that a size is at least 0 says nothing
    return bool((np.isfinite(lower) & (lower > 0)).any() if grows else np.isfinite([lower, upper]).any())


def tell(notes: list[str], log: Callable[[str], None], quiet: bool) -> None:
    """Says notes before the first epoch, and in the log."""
    for note in notes:
        log(f"note: {note}")
        if not quiet:
            Console().print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
