"""nnU-Net's trainer with bounds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from boundseg.errors import ConfigError
from boundseg.integrations.nnunet import judged
from boundseg.integrations.nnunet.bounded_loss import BoundedLoss
from boundseg.integrations.nnunet.case_grid import CaseGrid
from boundseg.integrations.nnunet.followed import require_followed
from boundseg.integrations.nnunet.loader import BoundedDataLoader, Reading
from boundseg.integrations.nnunet.seen import require_seen
from boundseg.integrations.nnunet.settings import TRAINER, Asked


class nnUNetTrainerBoundseg(nnUNetTrainer):  # type: ignore[misc]  # noqa: N801  # nnU-Net's own way of naming
    """nnU-Net's trainer, which also asks for the bounds of ``boundseg.yaml`` and ``priors.csv``.

    Plans, network, optimiser, schedule, augmentation, deep supervision, checkpoints and prediction are nnU-Net's. Its
    loss has a term more (:class:`~boundseg.integrations.nnunet.bounded_loss.BoundedLoss`), and where an ignore label
    would keep it from empty regions, its patches lie anywhere
    (:class:`~boundseg.integrations.nnunet.loader.BoundedDataLoader`). Without constraints it is nnU-Net's in all.
    """

    asked: Asked
    num_epochs: int
    num_iterations_per_epoch: int
    num_val_iterations_per_epoch: int

    def initialize(self) -> None:
        """Reads what is asked, and sets up as nnU-Net does.

        Raises:
            InputError: See :meth:`Asked.load`; an augmentation that cannot be followed; slices that are not the file's.
        """
        if not self.was_initialized:
            self._ask()
        super().initialize()

    def _ask(self) -> None:
        self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        preprocessed = Path(self.preprocessed_dataset_folder_base)
        raw = [Path(nnUNet_raw) / self.plans_manager.dataset_name] if nnUNet_raw.is_set() else []
        cases = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        self.asked = Asked.load(type(self).__name__, [*raw, preprocessed], self.dataset_json, cases)
        settings = self.asked.settings
        self.num_epochs = settings.epochs or self.num_epochs
        self.num_iterations_per_epoch = settings.iterations or self.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.validation_iterations or self.num_val_iterations_per_epoch
        self.reading = Reading(
            tuple(self.plans_manager.transpose_forward),
            self.plans_manager.image_reader_writer_class.__name__,
            int(self.dataset_json.get("slice_axis", 2)) % 3,
        )

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's, of which each batch says where its patches lie."""
        if not self.asked.demands:
            own: tuple[Any, Any] = super().get_dataloaders()
            return own
        self._require_seen()
        self._say_what_is_seen()
        # nnU-Net names its loader where it builds it, among forty lines that are not ours to repeat
        with _replaced(
            sys.modules[nnUNetTrainer.__module__], "nnUNetDataLoader", partial(BoundedDataLoader, reading=self.reading)
        ):
            found: tuple[Any, Any] = super().get_dataloaders()
        return found

    def _build_loss(self) -> torch.nn.Module:
        return BoundedLoss(super()._build_loss(), self.asked.demands, self.label_manager.ignore_label)

    @staticmethod
    def get_training_transforms(*arguments: Any, **options: Any) -> Any:
        """nnU-Net's; refused where they cannot be followed."""
        found = nnUNetTrainer.get_training_transforms(*arguments, **options)
        require_followed(found)
        return found

    def on_train_start(self) -> None:
        """nnU-Net's; a copy of what is asked is left in the results."""
        super().on_train_start()
        if self.local_rank == 0:
            shutil.copyfile(self.asked.path, Path(self.output_folder) / "boundseg.yaml")

    def on_train_epoch_start(self) -> None:
        """nnU-Net's; weights of constraints that warm up grow."""
        super().on_train_epoch_start()
        default = self.asked.settings.warm_up
        for demand in self.asked.demands:
            epochs = default if demand.warm_up is None else demand.warm_up
            self.loss.strength[demand.constraint.name] = min(1.0, self.current_epoch / epochs) if epochs else 1.0

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's, of a batch whose place is known."""
        self.loss.patches = batch.get("patches")
        found: dict[str, Any] = super().train_step(batch)
        return found

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's, of a batch whose place is known."""
        self.loss.patches = batch.get("patches")
        found: dict[str, Any] = super().validation_step(batch)
        return found

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's; and how many bounds were kept."""
        super().on_train_epoch_end(train_outputs)
        self._say_what_was_kept("train")

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's; and how many bounds were kept."""
        super().on_validation_epoch_end(val_outputs)
        self._say_what_was_kept("val")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's; and ``validation/bounds.csv``, which bounds the predicted label maps keep."""
        if self.asked.demands:
            self._require_seen()  # rows may have changed since it was trained, and predicting takes long
        super().perform_actual_validation(save_probabilities)
        if self.local_rank or not self.asked.demands:
            return
        folder = Path(self.output_folder) / "validation"
        _, cases = self.do_split()
        classes, ending = len(self.label_manager.all_labels), self.dataset_json["file_ending"]
        rows = judged.judge(folder, cases, self.asked.demands, classes, self.reading.slice_axis, ending)
        if rows:
            judged.write(folder / "bounds.csv", rows)
        for name, (bounds, kept, missed) in judged.summary(rows).items():
            self.print_to_log_file(
                f"validation {name}: {kept} of {bounds} bounds kept, missed by {missed:.4g} in the mean"
            )

    def _say_what_was_kept(self, side: str) -> None:
        for name, (known, kept, cost) in self.loss.read().items():
            self.print_to_log_file(f"{side} {name}: {kept:.1%} of {known} bounds kept, mean penalty {cost:.4g}")

    def _require_seen(self) -> None:
        """Looks at all cases, before what takes long.

        Raises:
            InputError: See :func:`~boundseg.integrations.nnunet.seen.require_seen`.
        """
        sides = self.get_tr_and_val_datasets()
        grids = {case: self.reading.grid(side, case) for side in sides for case in side.identifiers}
        axes = len(self.configuration_manager.patch_size)
        require_seen(grids, self.asked.demands, axes, str(self.asked.path.parent))

    def _say_what_is_seen(self) -> None:
        """How many cases a patch holds whole, for of parts only upper bounds and absence hold.

        Raises:
            ConfigError: Bounds per slice, and no case whose slices the network sees.
        """
        train, _ = self.get_tr_and_val_datasets()
        patch = list(self.configuration_manager.patch_size)
        grids = {case: self.reading.grid(train, case) for case in train.identifiers}
        sliced = [case for case, grid in grids.items() if _sees_slices(grid, len(patch))]
        of_slices = [d.constraint.name for d in self.asked.demands if d.constraint.scope == "slice"]
        if of_slices and not sliced:
            raise ConfigError(
                f"{of_slices[0]!r} speaks of the file's slices along axis {self.reading.slice_axis}, and in the "
                f"configuration {self.configuration_name} nnU-Net sees none: it cuts or resamples volumes otherwise.",
                str(self.asked.path),
                "Set slice_axis in dataset.json, train the configuration 2d, or give bounds per volume.",
            )
        shown = "x".join(map(str, patch))
        for scope in sorted({d.constraint.scope for d in self.asked.demands}):
            whole = sum(_fits(grid, patch, scope) for grid in grids.values())
            self.print_to_log_file(
                f"A patch of {shown} holds a whole {scope} of {whole} of {len(grids)} training cases (before it is "
                "scaled and turned); of parts only absence and upper bounds on what grows hold."
            )


def _sees_slices(grid: CaseGrid, axes: int) -> bool:
    return grid.keeps_slices and (axes == 3 or grid.slice_axis == 0)


def _fits(grid: CaseGrid, patch: list[int], scope: str) -> bool:
    if len(patch) == 2:
        in_plane = all(n <= p for n, p in zip(grid.shape[1:], patch, strict=True))
        return in_plane and (_sees_slices(grid, 2) if scope == "slice" else grid.shape[0] == 1)
    fits = [n <= p for n, p in zip(grid.shape, patch, strict=True)]
    return all(fits) if scope == "volume" else grid.keeps_slices and all(np.delete(fits, grid.slice_axis))


def named(name: str) -> type[nnUNetTrainerBoundseg]:
    """The trainer under another name, which has a ``boundseg_NAME.yaml`` and a results folder of its own."""
    if not name.startswith(TRAINER):
        raise ValueError(f"{name!r} does not begin with {TRAINER}")
    return type(name, (nnUNetTrainerBoundseg,), {"__module__": __name__}) if name != TRAINER else nnUNetTrainerBoundseg


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)
