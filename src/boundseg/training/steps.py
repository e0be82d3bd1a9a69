"""What the steps of an epoch are made of: a batch, or the chunks of volumes that do not fit into memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from boundseg.accumulate import nothing_of
from boundseg.data.ahead import ahead
from boundseg.data.batches import Batch, BatchOf, count_batches, made, named, order
from boundseg.data.chunks import chunks_of_patches
from boundseg.data.patches import Patches
from boundseg.data.taught import Place, TaughtCase
from boundseg.errors import DatasetError
from boundseg.training.processes import Processes

Places = Sequence[tuple[int, Place]]
Maker = Callable[[], Batch]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        chunks: What this process brings: each makes a batch on the device, the same one whenever it is called.
        images: Says which images all processes bring, in words.
        count: How many that are.
        volumes: The numbers of the volumes that they are of.
    """

    chunks: list[Maker]
    images: Callable[[], list[str]]
    count: int
    volumes: list[int]


@dataclass(frozen=True)
class Steps:
    """How epochs are divided.

    Attributes:
        cases: Those that teach.
        of: What a batch is made of.
        batch_size: Of how many; on several processes, of all of them together.
        volume_constraints: Names of the constraints whose bounds speak of volumes.
        chunk: How much of a batch is in memory at once: so many slices, or a patch of a volume; None: all of it.
        overlap: How many voxels patches of a volume share, for descriptors that look at neighbours.
        ignore: The label of voxels of which nothing is known.
        processes: Those that share each step.
    """

    cases: Sequence[TaughtCase]
    of: BatchOf | Patches
    batch_size: int
    volume_constraints: frozenset[str]
    chunk: int | tuple[int, int, int] | None
    overlap: int
    ignore: int
    processes: Processes

    def __len__(self) -> int:
        return count_batches(self.cases, self.of, self.batch_size)

    def of_epoch(self, rng: np.random.Generator, skip: int = 0) -> Iterator[Step]:
        """All steps of an epoch but the first ones that were taken before.

        Args:
            rng: Draws the order, the same on all processes.
            skip: How many were taken.
        """
        batches = order(self.cases, self.of, self.batch_size, rng)[skip:]
        if self.chunk is None:
            made_ahead = ahead(map(self._share, batches), self.processes.fabric.device)
            for places, batch in zip(batches, made_ahead, strict=True):
                yield self._step(places, [partial(_same, batch)])
            return
        for places in batches:
            chunks = self._chunks(places)
            mine = list(self.processes.share(chunks)) or [partial(self._nothing, chunks[0])]
            yield self._step(places, [partial(self._on_device, chunk) for chunk in mine])

    def _step(self, places: Places, chunks: list[Maker]) -> Step:
        return Step(chunks, partial(named, self.cases, places), len(places), sorted({index for index, _ in places}))

    def _share(self, places: Places) -> Batch:
        """This process's part of a batch; where there are fewer images than processes, some bring nothing."""
        mine = self.processes.share(places)
        return self._made(mine) if mine else self._nothing(partial(self._made, places[:1]))

    def _chunks(self, places: Places) -> list[Maker]:
        if isinstance(self.chunk, int):
            starts = range(0, len(places), self.chunk)
            return [partial(self._made, places[start : start + self.chunk]) for start in starts]
        assert self.chunk is not None, "there are no chunks of nothing"
        patches = partial(
            chunks_of_patches,
            self.cases,
            volume_constraints=self.volume_constraints,
            size=self.chunk,
            ignore=self.ignore,
            overlap=self.overlap,
        )
        return [chunk for index, _ in places for chunk in patches(index)]

    def _made(self, places: Places) -> Batch:
        try:
            return made(self.cases, self.of, places, self.volume_constraints)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{', '.join(named(self.cases, places)[:4])}: what was prepared of it cannot be read: {error}",
                remedy="Remove the folder prepared/ of the dataset: it is made again. Then go on with --resume.",
            ) from error

    def _nothing(self, chunk: Maker) -> Batch:
        return nothing_of(chunk(), self.ignore)

    def _on_device(self, chunk: Maker) -> Batch:
        return chunk().to(self.processes.fabric.device)


def _same(batch: Batch) -> Batch:
    return batch
