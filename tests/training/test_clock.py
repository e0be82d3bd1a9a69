"""The phases of an epoch make up its time."""

from __future__ import annotations

import pytest
import torch

from boundseg.training import clock as clocks
from boundseg.training.clock import Clock


def test_every_second_belongs_to_the_phase_that_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.0, 14.0, 14.5, 20.0, 20.0, 30.0, 31.0])
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: next(times))
    clock = Clock(torch.device("cpu"))
    clock.lap("data")
    clock.lap("forward")
    clock.lap("data")
    clock.lap("validation")
    assert clock.elapsed == 10
    found = clock.seconds()
    assert found["seconds: data"] == 1.5
    assert found["seconds: forward"] == 3
    assert found["seconds: validation"] == 5.5
    assert sum(found.values()) == 10
    clock.begin()
    clock.lap("step")
    assert clock.seconds()["seconds: step"] == 1
    assert sum(clock.seconds().values()) == 1
