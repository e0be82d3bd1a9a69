"""Random states of several processes, and of checkpoints of earlier versions."""

from __future__ import annotations

import torch

from boundseg.training.state.random_state import random_state, set_random_state


def drawn_after(seed: int) -> tuple[list[str], torch.Tensor]:
    torch.manual_seed(seed)
    state = random_state()
    return state, torch.rand(3)


def test_each_process_goes_on_with_its_own_draws() -> None:
    states, draws = zip(*(drawn_after(seed) for seed in (0, 1)), strict=True)
    for rank in (0, 1):
        set_random_state({"rng": list(states)}, rank, 2)
        assert torch.equal(torch.rand(3), draws[rank])


def test_other_numbers_of_processes_go_on_from_their_seeds() -> None:
    states, _ = zip(*(drawn_after(seed) for seed in (0, 1)), strict=True)
    torch.manual_seed(7)
    set_random_state({"rng": list(states)}, 2, 3)
    found = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), found)


def test_the_state_of_an_earlier_version_is_one_text() -> None:
    (state, *_), draws = drawn_after(3)
    set_random_state({"rng": state, "rng_cuda": []}, 0, 1)
    assert torch.equal(torch.rand(3), draws)
