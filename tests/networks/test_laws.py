"""What every network of ours keeps; a new one is a row in CASES."""

from __future__ import annotations

import copy
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from boundseg.networks import ENet, ResidualUNet
from boundseg.networks.padding import pad_to_multiple

CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "enet": (lambda: ENet(1, 3), 8),
    "enet, channel dropout": (lambda: ENet(1, 3, dropout="channel"), 8),
    "enet, original": (lambda: ENet(1, 3, decoder="original"), 8),
    "residual_unet": (lambda: ResidualUNet(1, 3, width=4), 16),
}


@pytest.fixture(params=CASES)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return CASES[request.param][0]()


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (32, 32), (33, 31)])
def test_logits_have_the_images_size(network: nn.Module, size: tuple[int, int]) -> None:
    assert network.eval()(torch.randn(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("case", CASES)
def test_an_odd_image_is_the_padded_image_cropped(case: str) -> None:
    torch.manual_seed(0)
    network, multiple = CASES[case][0]().eval(), CASES[case][1]
    image = torch.randn(1, 1, 35, 20)
    whole = network(pad_to_multiple(image, multiple))
    torch.testing.assert_close(network(image), whole[..., :35, :20])


def test_every_parameter_gets_a_gradient(network: nn.Module) -> None:
    image = torch.randn(2, 1, 40, 40, dtype=torch.float64)
    F.cross_entropy(network.double()(image), torch.randint(0, 3, (2, 40, 40))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert float(parameter.grad.abs().max()) > 1e-8, name  # more than rounding


def test_evaluation_is_deterministic_and_leaves_the_network_alone(network: nn.Module) -> None:
    before = copy.deepcopy(network.eval().state_dict())
    image = torch.randn(2, 1, 24, 24)
    first, second = network(image), network(image)
    assert torch.equal(first, second)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    torch.testing.assert_close(network(image[:1]), first[:1])  # no image sees its neighbours


def test_training_without_gradients_equals_training_with_them(network: nn.Module) -> None:
    image = torch.randn(2, 1, 32, 32)
    torch.manual_seed(1)
    with_gradients = network(image)
    with torch.no_grad():
        torch.manual_seed(1)
        torch.testing.assert_close(network(image), with_gradients)


def test_bf16_autocast_and_channels_last_stay_close(network: nn.Module) -> None:
    network.eval()
    image = torch.randn(2, 1, 32, 32)
    exact = network(image).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(image).detach()
    assert rounded.dtype == torch.bfloat16
    # the median: a tie in bf16 lets max-unpooling move a value to the next pixel, which is a big error there
    assert float((rounded.float() - exact).abs().median() / exact.abs().median()) < 0.05
    last = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(image.to(memory_format=torch.channels_last)), exact, rtol=1e-3, atol=1e-4)


def test_a_saved_network_continues_as_it_was(network: nn.Module) -> None:
    image = torch.randn(2, 1, 32, 32)
    network(image)  # moves the batch-norms' statistics
    again = copy.deepcopy(network)
    for module in again.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(image), network.eval()(image))


@pytest.mark.parametrize("case", ["enet", "enet, original", "residual_unet"])
def test_compiles_into_one_graph(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks are no part of the graph
    torch.manual_seed(0)
    network, image = CASES[case][0]().eval(), torch.randn(2, 1, 24, 24)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(image), network(image))


@pytest.mark.parametrize("case", CASES)
def test_learns_one_small_image_by_heart(case: str) -> None:
    torch.manual_seed(0)
    network = CASES[case][0]()
    image, target = 0.1 * torch.randn(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.long)
    image[..., 8:20, 10:26] += 1
    target[:, 8:20, 10:26] = 1
    image[..., 24:30, 4:28] -= 1
    target[:, 24:30, 4:28] = 2
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    right = 0.0
    for _ in range(150):
        logits = network(image)
        right = float((logits.argmax(dim=1) == target).float().mean())
        if right > 0.95:
            break
        optimizer.zero_grad()
        F.cross_entropy(logits, target).backward()
        optimizer.step()
    assert right > 0.95
