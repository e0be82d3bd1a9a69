"""PReLU: torch.nn.PReLU is the oracle for values, gradients and the state dict."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from boundseg.networks import PReLU
from boundseg.networks import prelu as prelu_module

SHAPES = [(2, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 4)]


def pair(slopes: int, dtype: torch.dtype = torch.float64) -> tuple[PReLU, nn.PReLU]:
    """Ours and PyTorch's with the same slopes: negative, small, and above 1."""
    theirs = nn.PReLU(slopes).to(dtype)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([-0.3, 0.25, 1.7])[-slopes:])
    ours = PReLU(slopes).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def values_and_gradients(module: nn.PReLU, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = module(x)
    return y, *torch.autograd.grad(y, (x, module.weight), grad.to(y.dtype))


def test_state_dicts_are_interchangeable() -> None:
    theirs = nn.PReLU(4)
    nn.init.normal_(theirs.weight)
    ours = PReLU(4)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == ["weight"]
    assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_equals_torchs_in_float64(slopes: int, shape: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x[x.abs() < 0.2] = 0.0  # the kink itself
    grad = torch.randn(shape, generator=generator, dtype=torch.float64)
    ours, theirs = pair(slopes)
    for a, b in zip(values_and_gradients(ours, x, grad), values_and_gradients(theirs, x, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("slopes", [1, 3])
def test_gradients_match_finite_differences(slopes: int) -> None:
    module, _ = pair(slopes)
    x = torch.tensor([-1.5, -0.4, 0.3, 0.9, -0.2, 2.0], dtype=torch.float64).view(1, 3, 2)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(module, {"weight": weight}, (x,))
        return out

    inputs = (x.requires_grad_(), module.weight)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_own_backward_runs_in_training_on_a_cpu() -> None:
    y = PReLU()(torch.randn(3, 2, requires_grad=True))
    assert type(y.grad_fn).__name__ == f"{prelu_module._PReLU.__name__}Backward"


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
def test_equals_torchs_under_bf16_autocast(slopes: int, x_dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 3, 8, 8, dtype=x_dtype), torch.randn(2, 3, 8, 8)
    ours, theirs = pair(slopes, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        a, b = values_and_gradients(ours, x, grad), values_and_gradients(theirs, x, grad)
    assert [t.dtype for t in a] == [t.dtype for t in b] == [torch.bfloat16, x_dtype, torch.float32]
    assert torch.equal(a[0], b[0])
    torch.testing.assert_close(a[1], b[1], rtol=2**-7, atol=1e-6)
    torch.testing.assert_close(a[2], b[2], rtol=2**-6, atol=0.05)  # a sum of 128 or 384 bf16 terms


@pytest.mark.parametrize("slopes", [1, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_equals_torchs_in_channels_last_and_keeps_it(slopes: int, mixed: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last)
    grad = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if not mixed:
        grad = grad.to(memory_format=torch.channels_last)
    ours, theirs = pair(slopes)
    found, wanted = values_and_gradients(ours, x, grad), values_and_gradients(theirs, x, grad)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_takes_an_expanded_gradient() -> None:
    x = torch.tensor([[-2.0, 3.0]], requires_grad=True)
    module = PReLU()
    module(x).sum().backward()
    assert x.grad is not None
    assert module.weight.grad is not None
    assert x.grad.tolist() == [[0.25, 1.0]]
    assert module.weight.grad.tolist() == [-2.0]


@pytest.mark.parametrize("slopes", [1, 3])
def test_compiles_into_one_graph(slopes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks are no part of the graph
    ours, theirs = pair(slopes)
    x, grad = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x.requires_grad_()
    y = compiled(x)
    found = (y, *torch.autograd.grad(y, (x, ours.weight), grad))
    for a, b in zip(found, values_and_gradients(theirs, x, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    frozen = PReLU()
    frozen.weight.requires_grad_(False)
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    frozen(x).sum().backward()
    assert frozen.weight.grad is None
    assert x.grad is not None
    module = PReLU()
    module(torch.tensor([-1.0, 1.0])).sum().backward()
    assert module.weight.grad is not None
