"""What processes of a training agree on and add up, and devices that there are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from boundseg.errors import ConfigError
from boundseg.training.config import TrainingConfig
from boundseg.training.processes import Processes, start
from boundseg.training.state.random_state import set_random_state
from tests.ranks import on_two_ranks

SLURM = {
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


def of_two(rank: int = 0) -> Processes:
    return Processes(cast(Any, SimpleNamespace(global_rank=rank, world_size=2)))


def test_a_sum_waits_at_no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    def barrier(*_: Any, **__: Any) -> None:
        raise AssertionError("a wait of the host in each step")

    monkeypatch.setattr(dist, "barrier", barrier)

    def work(rank: int) -> None:
        mine = torch.tensor([float(rank + 1)])
        assert of_two(rank).add(mine) == 3
        assert mine == rank + 1

    on_two_ranks(work)


def test_an_epoch_of_few_steps_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several agree now and then only, and at least once an epoch."""
    monkeypatch.setattr(Processes, "gather", lambda self, mine: [mine, False])
    for steps in (1, 3, 10, 25):
        heard = [of_two().agree(True, step, steps) for step in range(steps)]
        assert heard[-1]
        assert sum(heard) <= steps // 10 + 1
    assert not any(of_two().agree(False, step, 25) for step in range(25))


@pytest.mark.parametrize(
    ("environment", "devices", "said"),
    [
        ({"LT_CLI_USED": "1", "LT_STRATEGY": "ddp"}, None, "conflicts with the value `--strategy=ddp`"),
        (SLURM, 4, "--ntasks-per-node=2"),
    ],
    ids=["fabric run --strategy", "another number of tasks"],
)
def test_devices_that_cannot_be_used_are_one_message(
    environment: dict[str, str], devices: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        start("cpu", devices, 1, TrainingConfig())
    assert said in str(refused.value) and "either the launcher or --devices" in str(refused.value)


def test_a_checkpoint_of_more_gpus_than_there_are_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: put.append(index))
    cpu = torch.get_rng_state().numpy().tobytes().hex()
    set_random_state({"rng": [[cpu, "00", "00"]]}, 0, 1)
    assert put == [0]
