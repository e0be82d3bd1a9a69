"""A network by its name: ours, or one of MONAI's."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from boundseg.errors import ConfigError, Problem
from boundseg.nearest import did_you_mean
from boundseg.networks.enet import ENet
from boundseg.networks.residual_unet import ResidualUNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {"enet": ENet, "residual_unet": ResidualUNet}

# What MONAI demands and a config need not say: five levels, the grid halved four times.
_UNET: dict[str, object] = {"channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2)}
_MONAI_DEFAULTS: dict[str, dict[str, object]] = {
    "unet": _UNET,
    "attentionunet": _UNET,
    "dynunet": {
        "kernel_size": (3, 3, 3, 3, 3),
        "strides": (1, 2, 2, 2, 2),
        "upsample_kernel_size": (2, 2, 2, 2),
    },
}


def build(name: str, in_channels: int, classes: int, spatial_dims: int = 2, **options: object) -> nn.Module:
    """A network that maps images ``[B, in_channels, *space]`` to logits ``[B, classes, *space]``.

    Our own (:data:`NETWORKS`) are 2D and take images of any size. Any other name is looked for, whatever
    its case, among the networks of ``monai.networks.nets`` that take ``spatial_dims``, ``in_channels`` and
    ``out_channels``: ``unet``, ``basicunet``, ``dynunet``, ``segresnet``, ``unetr``, … They keep MONAI's
    defaults and its demands on the image's size; ``unet``, ``attentionunet`` and ``dynunet``, which have no
    defaults for their levels, get five unless the options name any. Leave deep supervision off, where a
    network has it: logits must be one tensor. MONAI is imported only when it is asked for.

    Args:
        name: A key of :data:`NETWORKS`, or a MONAI class.
        in_channels: Image channels.
        classes: Output channels, background included.
        spatial_dims: 2 or 3.
        options: The network's further arguments.

    Raises:
        ConfigError: Unknown name or options, missing options, or values that the network refuses.
    """
    key = name.lower()
    if key in NETWORKS:
        if spatial_dims != 2:
            raise ConfigError(
                f"The network {key} is 2D, not {spatial_dims}D.",
                where="network",
                remedy="Use a 3D network of MONAI (unet, basicunet, dynunet, segresnet), or train on slices: give "
                "data.size two numbers.",
            )
        given: dict[str, object] = {"in_channels": in_channels, "classes": classes}
        constructor = NETWORKS[key]
    else:
        constructor = _from_monai(key)
        given = {"spatial_dims": spatial_dims, "in_channels": in_channels, "out_channels": classes}
        defaults = _MONAI_DEFAULTS.get(key, {})
        if not options.keys() & defaults.keys():
            options = {**defaults, **options}
    _check_options(key, constructor, given, options)
    try:
        return constructor(**given, **options)
    except ConfigError:
        raise
    except ImportError as error:
        missing = str(error).partition("\n")[0]  # MONAI appends a page about installing
        raise ConfigError(
            f"The network {key} needs a package that is not installed: {missing}",
            where="network",
            remedy="Install it with pip, or use another network.",
        ) from error
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"The network {key} cannot be built from these options: {error}",
            where="network",
            remedy="Change the option it speaks of.",
        ) from error


def require_size(network: nn.Module, name: str, in_channels: int, size: Sequence[int]) -> None:
    """Refuses a size of images that a network cannot take, without computing anything.

    Raises:
        ConfigError: Its layers do not fit together at this size, or its logits have another one.
    """
    # tensors without data: shapes alone go through the layers
    shadow, image = copy.deepcopy(network).to("meta").eval(), torch.empty(1, in_channels, *size, device="meta")
    shown = "x".join(map(str, size))
    remedy = (
        "Choose data.size (or data.chunk, where there is one) divisible by what the network halves it to (16 for five "
        "levels), or give it fewer levels."
    )
    try:
        logits = shadow(image)
    except NotImplementedError:
        return  # an operation that knows no shapes alone: nothing is known
    except (RuntimeError, ValueError, AssertionError) as error:
        fact = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"The network {name} cannot take images of {shown}: {fact}.", "network", remedy) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != image.ndim:
        raise ConfigError(
            f"The network {name} gives no single tensor of logits.", "network", "Leave its deep supervision off."
        )
    if logits.shape[2:] != image.shape[2:]:
        found = "x".join(map(str, logits.shape[2:]))
        raise ConfigError(f"The network {name} makes {found} of images of {shown}.", "network", remedy)


def _from_monai(name: str) -> Callable[..., nn.Module]:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise ConfigError(
            f"Unknown network {name!r}{did_you_mean(name, NETWORKS)}",
            where="network",
            remedy=f"Ours are {', '.join(NETWORKS)}. For MONAI's, install it: pip install monai.",
        ) from error
    found = {
        label.lower(): value
        for label, value in vars(nets).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and {"spatial_dims", "in_channels", "out_channels"} <= inspect.signature(value).parameters.keys()
    }
    if name not in found:
        raise ConfigError(
            f"Unknown network {name!r}{did_you_mean(name, [*NETWORKS, *found])}",
            where="network",
            remedy=f"Ours are {', '.join(NETWORKS)}; other names are those of monai.networks.nets.",
        )
    return found[name]


def _check_options(
    name: str, constructor: Callable[..., nn.Module], given: Iterable[str], options: Iterable[str]
) -> None:
    parameters = dict(inspect.signature(constructor).parameters)
    open_ended = [p for p in parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [key for key, p in parameters.items() if p not in open_ended and key not in given]
    problems = [
        Problem(
            f"The network {name} has no option {key!r}{did_you_mean(key, known)}",
            where="network",
            remedy=f"It takes {', '.join(known) or 'none'}.",
        )
        for key in options
        if key not in known and not open_ended
    ]
    problems += [
        Problem(f"The network {name} needs the option {key!r}.", where="network", remedy="Give it a value.")
        for key in known
        if parameters[key].default is inspect.Parameter.empty and key not in options
    ]
    if problems:
        raise ConfigError.of(problems)
