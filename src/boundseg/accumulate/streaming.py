"""Whole volumes in one pass: what is not in a batch is what it was when it was seen last."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from boundseg.accumulate.chunk import Chunk
from boundseg.constraints import Groups, Totals
from boundseg.constraints.precision import best_precision
from boundseg.losses import Elsewhere, Loss, Rows


class Streaming:
    r"""Remembers what each image added to the constraints of its volume.

    A batch of a few slices takes its step with the sums of the whole volume: its own as they are now, and those of all
    other slices as they were when each was in a batch last. So any order of slices, of any volumes, will do, at the
    cost of a plain step.

    With :math:`\tilde S` for these sums, a batch that holds b of a volume's n images descends :math:`C(\tilde S)` with
    the gradient :math:`\frac{n}{b} C'(\tilde S) \sum_{i \in \text{batch}} \nabla s_i`: the mean over the batches of an
    epoch, were the network at rest, is the whole volume's gradient, as of one exact step. It is not at rest, so that
    :math:`C'` is taken at a place that is out of date by the steps in between. That bias falls with the learning rate
    (``benchmarks/volume_memory.py --bias`` measures it); :func:`~boundseg.accumulate.accumulate` has none.

    Until all of a volume's images were seen once, it is a volume seen in part: upper bounds of what grows are asked
    (absence among them), and the rest waits.

    A volume holds an image once, however often a batch does (sampling with replacement): the first of its copies counts
    and is remembered, the others have no part in what is asked of the volume, and b counts none twice. An image whose
    sums are not finite is not remembered: what was known of it stays.

    Around the loss of each batch::

        loss = objective(logits, …, rows=batch.rows, elsewhere=streaming.elsewhere(batch))
        streaming.remember(batch, loss)

    Batches need ``rows["slice"]``, ``rows["volume"]`` and ``volumes``. A volume is always cut into the same images:
    augmentation may move their content, not their number.

    Args:
        images: How many there are in all: numbers in ``rows["slice"]`` are below it.
        volumes: How many volumes; likewise.
    """

    def __init__(self, images: int, volumes: int) -> None:
        self._images, self._volumes = images, volumes
        # for each constraint: the last totals of every image, their sum for every volume, and a row of their shape
        self._last: dict[str, Tensor] = {}
        self._whole: dict[str, Tensor] = {}
        self._like: dict[str, Totals] = {}
        self._fresh: Tensor | None = None
        self._volume_of: Tensor | None = None

    @torch.no_grad()
    def elsewhere(self, batch: Chunk) -> Elsewhere:
        """What is known of the rest of the batch's volumes; waits for nothing.

        Raises:
            ValueError: The batch does not say which images and volumes it holds.
        """
        rows, volumes = _numbers(batch)
        totals: dict[str, Totals] = {}
        once = _once(rows["slice"])
        for name, like in self._like.items():
            own = self._last[name][rows["slice"]].where(once.unsqueeze(1), 0)
            totals[name] = like.unpacked(self._whole[name][rows["volume"]] - volumes.add(own))
        count = volumes.add(once.to(torch.float32))
        return Elsewhere(totals, gain=volumes.parts / count.clamp(min=1), once=once)

    @torch.no_grad()
    def remember(self, batch: Chunk, loss: Loss) -> None:
        """Keeps what the batch's images add to the constraints of volumes."""
        rows, volumes = _numbers(batch)
        # what is of nothing (a chunk that was emptied) has a negative number, and changes nothing
        image, place = rows["slice"].clamp(min=0), rows["volume"][volumes.index].clamp(min=0)
        new = _once(rows["slice"]) & (rows["slice"] >= 0)
        for totals in loss.totals.values():
            new = new & totals.packed().isfinite().all(1)
        for name, totals in loss.totals.items():
            packed = totals.packed()
            if name not in self._last:
                self._begin(name, totals, packed)
            change = (packed - self._last[name][image]).where(new.unsqueeze(1), 0)
            self._whole[name].index_add_(0, place, change)
            self._last[name].index_add_(0, image, change)
        if self._fresh is not None and self._volume_of is not None:
            self._fresh.index_add_(0, image, new.to(self._fresh.dtype)).clamp_(max=1)
            self._volume_of.index_add_(0, image, (place - self._volume_of[image]).where(new, 0))

    @torch.no_grad()
    def merge(self, add: Callable[[Tensor], Tensor]) -> None:
        """Brings the memories of several processes together: each image is as the process saw it that had it since.

        To be called by all processes, once an epoch or more often, after each has seen a batch.

        Args:
            add: Adds a tensor up over the processes and returns the sum.
        """
        if self._fresh is None or self._volume_of is None:
            return
        names = list(self._last)
        fresh = self._fresh.unsqueeze(1)
        known = torch.cat([fresh, self._volume_of.unsqueeze(1).to(fresh.dtype), *(self._last[n] for n in names)], 1)
        total = add(torch.cat([fresh, known[:, 1:] * fresh], 1))
        there = total[:, :1] > 0
        known = torch.where(there, total / total[:, :1].clamp(min=1), known)
        self._volume_of = known[:, 1].round().long()
        widths = [self._last[name].shape[1] for name in names]
        for name, last in zip(names, torch.split(known[:, 2:], widths, dim=1), strict=True):
            self._last[name] = last.clone()
            self._whole[name] = torch.zeros_like(self._whole[name]).index_add(0, self._volume_of, last)
        self._fresh.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """All that is remembered, as tensors."""
        state: dict[str, Tensor] = {}
        if self._fresh is None or self._volume_of is None:
            return state
        for name, like in self._like.items():
            state[f"last: {name}"] = self._last[name]
            state[f"whole: {name}"] = self._whole[name]
            state[f"shape: {name}"] = torch.tensor([*like.sums.shape[1:], like.cut.shape[1]])
        return {**state, "fresh": self._fresh, "volume_of": self._volume_of}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device | None = None) -> None:
        """Goes on from what was remembered.

        Args:
            state: See :meth:`state_dict`.
            device: Where the batches are. Default: where the state is.

        Raises:
            ValueError: It is of other numbers of images or volumes.
        """
        self.__init__(self._images, self._volumes)  # type: ignore[misc]
        for key, tensor in state.items():
            kind, _, name = key.partition(": ")
            wanted = {"last": self._images, "whole": self._volumes, "fresh": self._images, "volume_of": self._images}
            if kind in wanted and len(tensor) != wanted[kind]:
                raise ValueError(f"the memory {key!r} has {len(tensor)} rows, and here are {wanted[kind]}")
            tensor = tensor.to(device, copy=True)
            if kind == "shape":
                regions, sums, values = tensor.tolist()
                one = state[f"last: {name}"].new_zeros(1, device=device)
                cut = one.new_zeros(1, values)
                self._like[name] = Totals(one.new_zeros(1, regions, sums), one, one, one, one, cut, one)
            elif kind in ("last", "whole"):
                {"last": self._last, "whole": self._whole}[kind][name] = tensor
            elif kind == "fresh":
                self._fresh = tensor
            elif kind == "volume_of":
                self._volume_of = tensor

    def _begin(self, name: str, totals: Totals, packed: Float[Tensor, "B width"]) -> None:
        self._like[name] = totals.rows(torch.zeros(1, dtype=torch.long, device=packed.device))
        self._last[name] = packed.new_zeros(self._images, packed.shape[1])
        self._whole[name] = packed.new_zeros(self._volumes, packed.shape[1])
        if self._fresh is None:
            self._fresh = packed.new_zeros(self._images, dtype=best_precision(packed.device))
            self._volume_of = torch.zeros(self._images, dtype=torch.long, device=packed.device)


def _once(numbers: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Where a number stands for the first time."""
    return ~(numbers == numbers.unsqueeze(1)).tril(-1).any(1)


def _numbers(batch: Chunk) -> tuple[Rows, Groups]:
    rows, volumes = batch.rows or {}, batch.volumes
    if volumes is None or "slice" not in rows or "volume" not in rows:
        raise ValueError(
            "what is remembered goes by the numbers of images and volumes: give each batch its volumes=Groups(…) and "
            'rows={"slice": …, "volume": …}'
        )
    return rows, volumes
