"""Any image size for networks that halve their grid a few times."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Float[Tensor, "B C H W"], multiple: int) -> Float[Tensor, "B C H2 W2"]:
    """Repeat the last row and column until both sides are multiples of ``multiple``.

    Pixels are added below and on the right only, so that cropping the logits with ``[..., :H, :W]`` gives
    the input's grid back. Border values are repeated rather than zeros set, because a network trained on
    unpadded images has not seen such an edge. A fitting image is handed back as it is.
    """
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return image
    return F.pad(image, (0, right, 0, below), mode="replicate")
