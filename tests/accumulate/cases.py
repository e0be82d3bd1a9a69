"""Steps that can be cut into chunks at will, and networks to take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from boundseg.constraints import (
    Bounds,
    Centroid,
    Constraint,
    Descriptor,
    Frame,
    Groups,
    Intensity,
    Scope,
    Size,
    Spread,
)

IGNORE = 255
WANTED: dict[str, tuple[Descriptor, float, float, float]] = {
    # name: descriptor, lower, upper (of soft sizes near a half, everything is violated), scale
    "size": (Size("mL"), 0.2, 0.5, 0.5),
    "centre": (Centroid("mm"), 2.0, 3.0, 10.0),
    "spread": (Spread("mm"), 1.0, 2.0, 5.0),
    "light": (Intensity(), 112.0, 120.0, 5.0),
    "contrast": (Intensity("variance"), 10.0, 20.0, 30.0),
}


@dataclass(frozen=True)
class Images:
    """A chunk, or a whole step."""

    images: Tensor
    labels: Tensor
    frame: Frame
    volumes: Groups
    bounds: dict[str, Bounds]
    rows: dict[Scope, Tensor]


def constraints(names: Iterable[str] = WANTED, of_slices: bool = True) -> list[Constraint]:
    found = [Constraint(n, WANTED[n][0], ((1,), (2,)), "volume", scale=WANTED[n][3], weight=0.3) for n in names]
    if of_slices:
        found.append(Constraint("slice size", Size(), ((1,),), weight=0.1))
        found.append(Constraint("slice centre", Centroid(axis=0), ((2,),), scale=3.0, weight=0.1))
    return found


def step(parts: Sequence[int], space: tuple[int, ...] = (12, 10), first: int = 0, seed: int = 0) -> Images:
    """Volumes of so many images each; most are labelled in some pixels, some in none, some bounds are unknown.

    Args:
        parts: Images of each volume. For 3D images, patches that lie one behind the other.
        space: Of an image.
        first: The number of the first volume.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    count = sum(parts)
    images = uniform(count, 1, *space) - 0.5
    labels = torch.randint(3, (count, *space), generator=generator)
    labels[uniform(count, *space) > 0.2] = IGNORE
    labels[::3] = IGNORE
    weight = 0.8 + 0.4 * uniform(count, *space)
    weight[..., 0] = 0  # padding, or where patches overlap
    number = torch.cat([torch.arange(n) for n in parts])
    affine = torch.zeros(count, 3, 4)
    affine[:, :, :3] = torch.eye(3) + 0.1 * (uniform(3, 3) - 0.5)
    affine[:, :2, 3] = 40  # far from the case's first voxel
    affine[:, 2, 3] = number * (space[-1] - 1 if len(space) == 3 else 1)
    frame = Frame(weight, torch.tensor([[1.2, 1.5, 4.0]] * count), None, affine, 100 + 30 * images)
    volumes = Groups(torch.arange(len(parts)).repeat_interleave(torch.tensor(parts)), torch.tensor(parts))
    bounds = {}
    for name, (_, lower, upper, _) in WANTED.items():
        components = (3,) if name in ("centre", "spread") else ()
        low = torch.full((len(parts), 2, *components), lower)
        bounds[name] = Bounds(low, torch.full_like(low, upper))
    size = torch.where(uniform(count, 1) < 0.3, torch.inf, 15.0)
    bounds["slice size"] = Bounds.at_most(size)
    bounds["slice centre"] = Bounds.at_most(torch.where(uniform(count, 1) < 0.3, torch.inf, 2.0))
    rows: dict[Scope, Tensor] = {
        "slice": torch.arange(count) + 100 * first,
        "volume": torch.arange(len(parts)) + first,
    }
    return Images(images, labels, frame, volumes, bounds, rows)


def some(batch: Images, index: Tensor, asked: Iterable[str]) -> Images:
    """Some images of a step, with the bounds of their volumes."""
    held = list(dict.fromkeys(batch.volumes.index[index].tolist()))
    place = {group: i for i, group in enumerate(held)}
    f, groups = batch.frame, torch.tensor(held)
    assert f.spacing_mm is not None and f.affine is not None and f.image is not None
    bounds = {}
    for name in asked:
        rows = index if name.startswith("slice") else groups
        bounds[name] = Bounds(batch.bounds[name].lower[rows], batch.bounds[name].upper[rows])
    return Images(
        batch.images[index],
        batch.labels[index],
        replace(
            f, weight=f.weight[index], spacing_mm=f.spacing_mm[index], affine=f.affine[index], image=f.image[index]
        ),
        Groups(torch.tensor([place[g] for g in batch.volumes.index[index].tolist()]), batch.volumes.parts[groups]),
        bounds,
        {"slice": batch.rows["slice"][index], "volume": batch.rows["volume"][groups]},
    )


def cut(batch: Images, size: int, asked: Iterable[str], noise: float = 0.0) -> list[Callable[[], Images]]:
    """Chunks of so many images each, whichever volume they are of; with noise that is drawn when they are made."""
    asked = list(asked)

    def made(index: Tensor) -> Images:
        chunk = some(batch, index, asked)
        return replace(chunk, images=chunk.images + noise * torch.randn_like(chunk.images))

    return [lambda index=index: made(index) for index in torch.arange(len(batch.images)).split(size)]  # type: ignore[misc]


def network(norm: str = "batch", dims: int = 2, dropout: float = 0.3) -> nn.Module:
    """Two convolutions with a norm and dropout between."""
    torch.manual_seed(1)
    conv: type[nn.Module] = nn.Conv2d if dims == 2 else nn.Conv3d
    batch: type[nn.Module] = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
    middle = batch(4) if norm == "batch" else nn.GroupNorm(2, 4)
    drop = (nn.Dropout2d if dims == 2 else nn.Dropout3d)(dropout)
    return nn.Sequential(conv(1, 4, 3, padding=1), middle, nn.ReLU(), drop, nn.Dropout(dropout), conv(4, 3, 1))


def gradient(model: nn.Module) -> Tensor:
    """Of all parameters, in one row."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to theirs."""
    return float((ours - theirs).norm() / theirs.norm())
