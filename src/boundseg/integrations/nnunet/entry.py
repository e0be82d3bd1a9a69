"""nnU-Net's own commands, which are handed our trainer instead of having to find it.

nnU-Net looks a trainer up by importing every module of its own that comes before; among them are some that need timm
and torchvision, whose build for CUDA cannot be imported beside a torch for CPUs (``operator torchvision::nms does not
exist``). Here the look-up answers at once for our trainer, and is nnU-Net's for every other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from boundseg.errors import ConfigError

FOLDER = Path(__file__).parent / "external"
VARIABLE = "nnUNet_extTrainer"


def train(arguments: Sequence[str]) -> None:
    """``nnUNetv2_train`` with our trainer, unless ``-tr`` names another.

    Args:
        arguments: nnU-Net's, such as ``["1", "2d", "0", "-device", "cpu"]``.

    Raises:
        ConfigError: nnU-Net is not installed.
        InputError: See :class:`~boundseg.integrations.nnunet.trainer.nnUNetTrainerBoundseg`.
    """
    require_installed()
    from nnunetv2.run import run_training

    from boundseg.integrations.nnunet.settings import TRAINER

    given = list(arguments)
    asks_for_help = {"-h", "--help"} & set(given)
    if "-tr" not in given and not asks_for_help:
        given += ["-tr", TRAINER]
    with handed_over(run_training):
        _run(run_training.run_training_entry, "nnUNetv2_train", given)


def predict(arguments: Sequence[str]) -> None:
    """``nnUNetv2_predict`` with our trainer, unless ``-tr`` names another.

    Args:
        arguments: nnU-Net's.

    Raises:
        ConfigError: nnU-Net is not installed.
    """
    require_installed()
    from nnunetv2.inference import predict_from_raw_data

    from boundseg.integrations.nnunet.settings import TRAINER

    given = list(arguments)
    if "-tr" not in given and not {"-h", "--help"} & set(given):
        given += ["-tr", TRAINER]
    with handed_over(predict_from_raw_data):
        _run(predict_from_raw_data.predict_entry_point, "nnUNetv2_predict", given)


def require_installed() -> None:
    """Raises ConfigError where nnU-Net is not installed."""
    if find_spec("nnunetv2") is None:
        raise ConfigError("nnU-Net v2 is not installed.", remedy="pip install 'boundseg[nnunet]'")


@contextmanager
def handed_over(module: Any) -> Iterator[None]:
    """Within, a module of nnU-Net's finds our trainer by its name; processes that it starts find it by the variable."""
    from boundseg.integrations.nnunet.settings import TRAINER
    from boundseg.integrations.nnunet.trainer import named

    name = "recursive_find_trainer_class_by_name"
    own: Callable[[str], type] = getattr(module, name)
    before = os.environ.get(VARIABLE)
    folders = [str(FOLDER), *(before or "").split(os.pathsep)]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(folder for folder in folders if folder))
    setattr(module, name, lambda asked: named(asked) if asked.startswith(TRAINER) else own(asked))
    try:
        yield
    finally:
        setattr(module, name, own)
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def _run(command: Callable[[], None], name: str, arguments: list[str]) -> None:
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        command()
    finally:
        sys.argv = before
