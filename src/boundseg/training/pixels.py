"""The size of a scan's pixels beside that of the training's: what is noted of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from boundseg.data.enlarged import by
from boundseg.data.orientation import FINER
from boundseg.data.placement import Spacing
from boundseg.data.volume_io import Volume


def note(volume: Volume, spacing_mm: Spacing, known: Sequence[float]) -> str | None:
    """What the reader should know of a case's pixels: nobody measured them, or the training's are of another size.

    Args:
        volume: The case.
        spacing_mm: Its own.
        known: Sides of the training's pixels, in mm; empty where nothing is known of them.
    """
    own_mm = spacing_mm[:2]
    least, most = (min(known), max(known)) if known else (math.nan, math.nan)
    there = f"{least:.4g}" + (f" to {most:.4g}" if most > 1.001 * least else "")
    if not volume.measured:
        beside = f" (those of the training measure {there} mm)" if known else ""
        return f"nothing says how large pixels are, 1 mm is taken{beside}: no mL, no mm2. --spacing says it."
    if max(own_mm) > FINER * most or least > FINER * min(own_mm):
        return f"pixels measure {by(own_mm)} mm, those of the training {there} mm. Is the spacing right?"
    return None
