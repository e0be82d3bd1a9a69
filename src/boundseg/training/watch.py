"""Epochs on TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path


def tensorboard(folder: Path) -> Callable[[Mapping[str, float]], None]:
    """Writes rows of ``metrics.csv`` as scalars beside it; without TensorBoard, does nothing."""
    if find_spec("tensorboard") is None:
        return lambda row: None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "epoch":
                # slashes make the sections of its page
                writer.add_scalar(name.replace(": ", "/"), value, int(row["epoch"]))
        writer.flush()

    return write
