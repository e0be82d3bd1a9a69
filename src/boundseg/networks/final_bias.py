"""The bias that is added to the logits last."""

from __future__ import annotations

from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def final_bias(network: nn.Module) -> nn.Parameter | None:
    """The bias of the convolution that makes the logits: adding v to it adds v to every voxel's logits.

    Training starts it at the log of the classes' expected shares, so that the first softmax is these
    shares. It is the last convolution that was registered, auxiliary heads of deep supervision aside,
    which is true of our networks and of MONAI's segmentation networks. None if that has no bias, or if
    there is no convolution.
    """
    last = None
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS) and "supervision" not in name:
            last = module
    bias = None if last is None else last.bias
    return bias if isinstance(bias, nn.Parameter) else None
