"""PReLU whose backward pass is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F


class PReLU(nn.PReLU):
    r"""Parametric ReLU with PyTorch's values, gradients and state dict, and a faster backward on CPUs.

    .. math:: y = \max(0, x) + w \min(0, x)

    He et al. 2015. One slope w, or one per channel (axis 1), as ``num_parameters`` says; as in
    ``torch.nn.PReLU`` the slope multiplies the gradient at x = 0. PyTorch's CPU kernel decides the sign
    of every element by a branch, which the processor cannot predict; here both gradients are written as
    arithmetic on whole vectors. Wherever that gains nothing (other devices, compiled graphs, no
    gradient wanted) PyTorch's own function runs.

    An infinite incoming gradient gives NaN where PyTorch would keep infinity: both stop a gradient scaler.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return F.prelu(x, self.weight)
        if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
            # autocast does the same inside F.prelu, but a Function's backward must see one dtype
            x = x.to(torch.get_autocast_dtype("cpu"))
        y: Tensor = _PReLU.apply(x, self.weight.to(x.dtype))  # type: ignore[no-untyped-call]
        return y


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return F.prelu(x, weight)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        shared = weight.numel() == 1
        slope = weight if shared else weight.view(1, -1, *[1] * (x.ndim - 2))
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            # grad where x > 0, else 0; then a share `slope` of the way to grad: two passes, no branch.
            # torch.where would branch again, and is as slow as the kernel that is avoided.
            grad_x = torch.ops.aten.threshold_backward(grad, x, 0).lerp_(grad, slope)
        if ctx.needs_input_grad[1]:
            per_element = x.clamp(max=0).mul_(grad)
            axes = [axis for axis in range(x.ndim) if shared or axis != 1]
            grad_weight = per_element.sum(axes).view_as(weight)
        return grad_x, grad_weight
