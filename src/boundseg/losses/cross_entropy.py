"""Cross-entropy over the labelled pixels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

Average = Literal["image", "batch", "sum"]


def two_channels(logits: Float[Tensor, "B C *space"]) -> Float[Tensor, "B K *space"]:
    """Logits with a channel per class, float32 at least; one channel ``x`` is read as ``(0, x)``."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def partial_cross_entropy(
    logits: Float[Tensor, "B C *space"],
    labels: Integer[Tensor, "B *space"],
    ignore: int = 255,
    average: Average = "image",
) -> Float[Tensor, ""]:
    r"""Cross-entropy over the labelled pixels.

    .. math:: H = \frac{1}{|L|} \sum_{i \in L} \frac{1}{|\Omega_i|} \sum_{p \in \Omega_i} -\log S_p^{y_p}

    with :math:`\Omega_i` the labelled pixels of image i and :math:`L` the images that have any, so that an
    image with 50 labelled pixels counts as much as one with 65,536. Kervadec et al. 2019, eq. 2, write the
    plain sum (``average="sum"``); their code averages over the labelled pixels of the batch
    (``average="batch"``); for a batch of one image that is the same as ours. Full supervision is the case in
    which no pixel is ignored.

    Args:
        logits: Any number of classes; one channel ``x`` is read as the logits ``(0, x)``.
        labels: Class indices, ``ignore`` where nothing is known.
        ignore: The label that says so; every other value must be a class.
        average: See above.

    Returns:
        Nats, as float32 (float64 if given that); 0 with zero gradient where no pixel is labelled.

    Raises:
        ValueError: Labels have another shape, or there is no such average.
        IndexError: A label is neither a class nor ``ignore``.
    """
    require_average(average)
    return of_log_probs(two_channels(logits).log_softmax(1), labels, ignore, average)


def of_log_probs(
    log_probs: Float[Tensor, "B K *space"],
    labels: Integer[Tensor, "B *space"],
    ignore: int,
    average: Average,
    elsewhere: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, ""]:
    """:func:`partial_cross_entropy` of probabilities whose logarithm is there already.

    Args:
        log_probs: Log-softmax.
        labels: As there, as are ``ignore`` and ``average``.
        elsewhere: As in :func:`averaged`.
    """
    if labels.shape != log_probs[:, 0].shape:
        raise ValueError(
            f"labels of shape {list(labels.shape)} meet logits of shape {list(log_probs.shape)}: give class indices "
            "[B, *space]"
        )
    labels = labels.long()
    there = labels != ignore
    try:
        if torch.are_deterministic_algorithms_enabled():  # in which nll_loss has no form on GPUs
            # where, and no product: 0 times the infinity of a class that is masked out is no number
            nats = -log_probs.gather(1, labels.where(there, 0).unsqueeze(1)).squeeze(1).where(there, 0)
        else:
            nats = F.nll_loss(log_probs, labels, ignore_index=ignore, reduction="none")
    except (IndexError, RuntimeError) as error:
        if not isinstance(error, IndexError) and "out of bounds" not in str(error):  # as gather says it
            raise
        raise IndexError(
            f"{str(error).rstrip('.')}. Labels are 0 to {log_probs.shape[1] - 1}, and {ignore} where nothing is known: "
            "ignore=… says otherwise"
        ) from error
    return averaged(nats, there, average, elsewhere)


def require_average(average: str) -> None:
    """Refuses what is no average.

    Raises:
        ValueError: It is none of them.
    """
    if average not in get_args(Average):
        raise ValueError(f"average = {average!r}: choose {', '.join(get_args(Average))}")


def averaged(
    nats: Float[Tensor, "B *space"],
    there: Bool[Tensor, "B *space"],
    average: Average,
    elsewhere: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, ""]:
    """A number per pixel, averaged over the pixels that are there; see :func:`partial_cross_entropy`.

    Args:
        nats: 0 where a pixel does not count.
        there: Which pixels count.
        average: Over the pixels of an image and then the images that have any, over those of the batch, or not at all.
        elsewhere: What :func:`counted` says of the rest of a divided batch; the shares of its parts add up to the mean.
    """
    total = nats.flatten(1).sum(1)
    if average == "image":
        total = total / there.flatten(1).sum(1).clamp(min=1)
    return total.sum() / (counted(there, average) + elsewhere).clamp(min=1).to(total.dtype)


def counted(there: Bool[Tensor, "B *space"], average: Average) -> Float[Tensor, ""]:
    """By what :func:`averaged` divides, to be added over the parts of a batch; a sum is divided by nothing, 0."""
    if average == "sum":
        return torch.zeros((), device=there.device)
    # float32 counts to 16.7 million: more pixels than a chunk has
    return (there.flatten(1).any(1) if average == "image" else there).sum().to(torch.float32)


def full_cross_entropy(logits: Float[Tensor, "B C *space"], target: Integer[Tensor, "B *space"]) -> Float[Tensor, ""]:
    """Cross-entropy where every pixel is labelled: :func:`partial_cross_entropy` with nothing ignored.

    Raises:
        ValueError: The target has another shape.
        IndexError: A value of the target is no class (an ignore label among them).
    """
    return partial_cross_entropy(logits, target, ignore=-1)
