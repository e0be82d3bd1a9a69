"""Synthetic short-axis hearts for the demo: crude, but with the difficulties of cine MR.

Nothing here is anybody's data. A bright cavity in a dark ring of muscle, a second ventricle and organs
around it that are as bright, papillary muscles, bias field, noise, thick slices: intensity alone does not
tell what is the left ventricle. Lengths are drawn in mm and then sampled, so that spacing matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from boundseg.errors import InputError

LABELS = {"background": 0, "LV": 1, "Myo": 2, "RV": 3}

# Slices are averaged over this many planes across their thickness.
PLANES = 3


@dataclass(frozen=True)
class Phantom:
    """One volume, slices first from base to apex.

    Attributes:
        image: Intensities, 0 to about 1000; rounding them to int16 loses nothing that noise would leave.
        target: The class of every pixel, see ``LABELS``; what holds at the slice's middle plane.
        spacing_mm: Distance of slices, rows and columns.
    """

    image: Float32[np.ndarray, "Z H W"]
    target: UInt8[np.ndarray, "Z H W"]
    spacing_mm: tuple[float, float, float]


def heart(
    seed: int | Sequence[int],
    *,
    phase: Literal["ED", "ES"] = "ED",
    shape: tuple[int, int] = (96, 96),
    slices: tuple[int, int] = (6, 9),
    spacing_mm: tuple[float, float] = (1.2, 1.8),
) -> Phantom:
    """One synthetic volume of one patient, at the end of filling (ED) or of contraction (ES).

    Both phases of a seed show the same patient on the same grid: ES has the smaller cavity, the thicker
    muscle and the base nearer to the apex, with all organs where they were and noise of its own. One to
    three slices at the ends show no cavity; over the others its area falls by a factor of 10 or more.

    Args:
        seed: One number or several, none negative; the same seed and arguments give the same volume.
        phase: ED or ES.
        shape: Rows and columns. The field of view is ``shape`` times spacing; a heart is 80 to 110 mm wide.
        slices: Least and largest number of slices, at least 4.
        spacing_mm: Least and largest distance of pixels, in mm.

    Returns:
        Image, labels and spacing.
    """
    if slices[0] < 4 or slices[0] > slices[1]:
        raise InputError(f"Hearts of {slices[0]} to {slices[1]} slices.", remedy="Use 4 or more, least first.")
    if min(shape) < 1 or not 0 < spacing_mm[0] <= spacing_mm[1]:
        raise InputError(
            f"Slices of {shape[0]}×{shape[1]} pixels, {spacing_mm[0]} to {spacing_mm[1]} mm apart.",
            remedy="Use at least one row and column, and positive distances, least first.",
        )
    entropy = [seed] if isinstance(seed, int) else [*seed]
    # Anatomy and each phase's noise have generators of their own: no draw can shift another's.
    drawn = _Patient(np.random.default_rng([*entropy, 0]), shape, slices, spacing_mm)
    noise = np.random.default_rng([*entropy, 1 if phase == "ED" else 2])
    tissue, target = _paint(drawn, 1.0 if phase == "ES" else 0.0)
    return Phantom(_scan(drawn, tissue, noise), target, drawn.spacing_mm)


def patient(seed: int | Sequence[int], **options: Any) -> tuple[Phantom, Phantom]:
    """The two phases of one patient, ED and ES; the options are those of ``heart``."""
    return heart(seed, phase="ED", **options), heart(seed, phase="ES", **options)


def patients(count: int, seed: int, **options: Any) -> Iterator[tuple[str, Phantom]]:
    """Name and volume of every case of ``count`` patients: ``patient01_frame01`` is ED, ``…_frame02`` ES.

    A patient's volumes depend on ``seed`` and its number alone, not on ``count``.
    """
    for number in range(1, count + 1):
        for frame, phantom in enumerate(patient([seed, number], **options), 1):
            yield f"patient{number:02d}_frame{frame:02d}", phantom


@dataclass(frozen=True)
class _Organ:
    """An ellipsoid with a wavy outline and perhaps a wall; centre and radii (z, y, x) in mm."""

    value: float
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    waves: np.ndarray
    wall: float = 0.0

    def depth(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        dz, dy, dx = ((p - c) / r for p, c, r in zip((z, y, x), self.centre, self.radii, strict=True))
        outline = 1 + _wave(self.waves, np.arctan2(dy, dx))
        return (1 - np.sqrt(dz**2 + (dy**2 + dx**2) / outline**2)) * min(self.radii[1:])


class _Patient:
    """All that is drawn of a patient. Lengths in mm, z downwards from the first slice's upper face, y and x
    from the image's centre; brightness in units of blood's."""

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        slices: tuple[int, int],
        spacing_mm: tuple[float, float],
    ) -> None:
        u = rng.uniform
        # ---- the grid
        count = int(rng.integers(slices[0], slices[1], endpoint=True))
        apart, pixel = round(u(8, 10), 1), round(u(*spacing_mm), 3)
        self.spacing_mm = (apart, pixel, pixel)
        self.size = (count, *shape)
        self.shift = rng.normal(0, 0.8, (count, 2))  # every slice is another held breath
        # ---- the left ventricle: a half-ellipsoid, r(s) = R (1 - s^p)^(1/2) from base, s = 0, to apex, 1
        above, below = rng.choice([(0, 1), (0, 2), (1, 0), (1, 1)])
        self.base = (above + u(0.1, 0.4)) * apart
        self.sink = u(0.3, 0.6) * apart
        self.power = u(1.8, 2.6)
        last, smallest = (count - below - 0.5) * apart, u(0.035, 0.07)
        self.length = (last - self.base) / (1 - smallest) ** (1 / self.power)
        self.radius = np.exp(u(np.log(17), np.log(29)))
        self.squeeze = u(0.60, 0.85)
        self.muscle = u(7, 11)
        outer = self.radius + self.muscle
        self.septum = np.pi + u(-0.5, 0.5)
        self.axis = rng.normal(0, 0.08, 2)
        room = np.maximum(np.array(shape) * pixel / 2 - outer - 4, 0)
        to_septum = np.array([np.sin(self.septum), np.cos(self.septum)])
        self.centre = np.clip(rng.normal(0, 5, 2) - 0.4 * outer * to_septum, -room, room)
        self.outline = _draw_waves(rng, [0.07, 0.03, 0.02, 0.012])
        self.thickness = _draw_waves(rng, [0.10, 0.06, 0.03])
        self.twist = u(-0.012, 0.012)
        self.trabeculae = _draw_waves(rng, [0, 0, 0, 0, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03])
        self.papillary = [
            # angle from the free wall's middle, radii along and across, distance over the cavity's radius
            (side * u(0.4, 1.4), u(2.5, 6), u(2.5, 4.5), u(0.5, 0.85))
            for side in (-1, 1, *rng.choice([-1, 1], rng.integers(0, 2)))
        ]
        # ---- the right one: an ellipsoid beside it, of which the left one leaves a crescent
        reach = u(0.5, 0.75) * outer
        self.right = _Organ(
            1.0,
            (self.base + 0.1 * self.length, *(reach * to_septum)),
            (u(0.75, 0.95) * self.length, *(outer * rng.uniform(0.85, 1.1, 2))),
            _draw_waves(rng, [0.05, 0.05, 0.03]),
        )
        self.fat = u(0.7, 1.05), u(0, 5), _draw_waves(rng, [3.0, 2.0, 1.5])
        # ---- what the tissues look like
        self.dark = u(0.28, 0.5)
        self.organs = self._draw_organs(rng, outer)
        self.chest = u(-2.6, -1.8), outer * 1.25 + u(8, 20), u(10, 22), u(0.7, 1.0)
        self.mottle = [
            ndimage.gaussian_filter(rng.normal(size=self.size), (0.7, s / pixel, s / pixel)) for s in (1.6, 5)
        ]
        self.mottle = [field / max(field.std(), 1e-6) for field in self.mottle]
        self.coil = u(0.1, 0.5), _draw_waves(rng, [0.15, 0.08])
        self.blur = u(0.8, 1.2)
        self.noise = u(0.04, 0.09)
        self.gain = u(250, 450)

    def _draw_organs(self, rng: np.random.Generator, outer: float) -> list[_Organ]:
        u = rng.uniform
        apex = self.base + self.length
        roll = rng.normal(0, 0.15)

        def organ(value, z, angle, distance, radii, wall=0.0, waves=(0.08, 0.06, 0.04)) -> _Organ:
            y, x = self.centre + distance * np.array([np.sin(angle + roll), np.cos(angle + roll)])
            return _Organ(value, (z, y, x), radii, _draw_waves(rng, waves), wall)

        def blood() -> float:
            return u(0.8, 1.1)

        wild = (0.25, 0.2, 0.15, 0.1)
        top = self.base - 12
        # both atria and the root of the aorta: what slices above the ventricles show
        self.atria = [
            organ(blood(), top, u(0, 7), u(0, 8), (u(14, 20), 0.9 * outer, 0.75 * outer), 2.0),
            organ(blood(), top, self.septum - 1, u(15, 22), (u(14, 22), 13, 13), 2.0, (0.03,)),
            organ(blood(), top, self.septum, outer + u(-5, 8), (u(14, 20), 24, 20), 2.0),
        ]
        return [
            organ(u(0.3, 0.65), apex + 15, u(1.9, 2.6), outer + u(36, 48), (u(45, 90), 40, 48)),
            organ(u(0.4, 1.0), apex, u(0.7, 1.4), outer + u(20, 34), (u(30, 60), u(14, 24), u(16, 30)), 3.0),
            # fat between the organs
            *(
                organ(u(0.45, 1.0), u(self.base, apex), u(-0.8, 4), outer + u(0, 25), (u(15, 50), *radii), 0, wild)
                for radii in rng.uniform(6, 22, (rng.integers(2, 6), 2))
            ),
            # a loop of bowel, or the spleen's artery: bright, with a wall as dark as muscle
            *(
                organ(blood(), u(self.base, apex), u(-0.6, 1.8), outer + u(12, 26), (u(10, 30), r, r), u(3, 6))
                for r in rng.uniform(7, 16, rng.integers(0, 4))
            ),
            organ(blood(), 0, u(0.6, 1.4), outer + u(12, 18), (1e3, *(2 * [u(8, 12)])), 1.5, (0.03,)),
            *(
                organ(blood(), u(self.base, apex), u(-1.6, 0.9), outer + u(6, 45), (u(8, 40), r, r * u(1, 2)))
                for r in rng.uniform(1.5, 4.5, rng.integers(3, 8))
            ),
        ]


def _paint(p: _Patient, contraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Brightness averaged over every slice's thickness, and the classes at its middle."""
    count, height, width = p.size
    apart, pixel, _ = p.spacing_mm
    across = (np.arange(PLANES) - PLANES // 2) / PLANES * 0.8 * apart
    z = ((np.arange(count)[:, None] + 0.5) * apart + across)[..., None, None].astype(np.float32)
    y, x = (
        ((np.arange(n) - (n - 1) / 2) * pixel + p.shift[:, i, None]).astype(np.float32)
        for i, n in enumerate((height, width))
    )
    y, x = y[:, None, :, None], x[:, None, None, :]

    image = np.full((count, PLANES, height, width), 0.07, np.float32)

    def over(depth: np.ndarray, value: float | np.ndarray) -> None:
        nonlocal image
        image += np.clip(depth / pixel + 0.5, 0, 1) * (value - image)

    # ---- lungs with vessels, organs, chest wall
    image += 0.25 * np.clip(p.mottle[0] - 1.3, 0, 1.5)[:, None].astype(np.float32)
    for organ, moved in [*((o, 0.0) for o in p.organs), *((o, contraction * p.sink) for o in p.atria)]:
        depth = organ.depth(z - moved, y, x)
        if organ.wall:
            over(depth + organ.wall, p.dark)
        over(depth, organ.value)
    angle, distance, fat_mm, fat = p.chest
    cy, cx = y - p.centre[0], x - p.centre[1]
    along = np.cos(angle) * cx + np.sin(angle) * cy
    aside = np.cos(angle) * cy - np.sin(angle) * cx
    depth = along - distance + aside**2 / 240
    over(depth, p.dark * (1 + 0.6 * np.sin(aside / 5 + z / 9)))
    over(depth - 9 - 2 * np.sin(aside / 11), fat * (1 + 0.15 * np.sin(aside / 13 + z / 20)))
    over(depth - 9 - fat_mm, 0.0)

    # ---- the heart
    base = p.base + contraction * p.sink
    length = p.length - contraction * p.sink
    s = np.clip((z - base) / length, 0, 1)
    dy = cy - p.axis[0] * (z - base)
    dx = cx - p.axis[1] * (z - base)
    rho, theta = np.hypot(dy, dx), np.arctan2(dy, dx)
    turned = theta + p.twist * (z - base)
    squeezed = 1 - contraction * (1 - p.squeeze)
    inner = p.radius * squeezed * np.sqrt(1 - s**p.power) * (1 + _wave(p.outline, turned))
    # Muscle keeps its volume: over a shorter heart with a smaller cavity it is thicker.
    area = ((p.radius + p.muscle) ** 2 - p.radius**2) * p.length / length
    muscle = np.sqrt((p.radius * squeezed) ** 2 + area) - p.radius * squeezed
    cap = np.clip((z - base) / (length + 0.8 * muscle), 0, 1)
    outer = (p.radius * squeezed + muscle) * np.sqrt(1 - cap**p.power) * (1 + 0.7 * _wave(p.outline, turned))
    outer = np.maximum(outer * (1 + 0.3 * _wave(p.thickness, theta)), np.where(inner > 0, inner + 0.4 * muscle, 0))
    below_base = z - base
    left = np.minimum(outer - rho, below_base)
    cavity = np.minimum(inner - rho, below_base)
    right = np.minimum(p.right.depth(z, dy, dx) - 3 * contraction, below_base)
    value, fat_mm, waves = p.fat
    hull = np.maximum(left, right + 2.5)
    fat_mm = (fat_mm + _wave(waves, theta)) * np.clip(outer / p.radius, 0, 1)
    over(np.minimum(hull + np.maximum(fat_mm, 0), below_base + 3), value)
    over(np.minimum(hull + 0.8, below_base), p.dark)
    over(right, p.right.value)
    over(left, p.dark)
    rough = np.maximum(_wave(p.trabeculae, turned), -0.05) * inner
    over(cavity - np.maximum(rough, 0), 1.0)
    for angle, along, across, where in p.papillary:
        towards = p.septum + np.pi + angle + 4 * p.twist * (z - base)
        radial = np.cos(towards) * dx + np.sin(towards) * dy - where * inner.mean((2, 3), keepdims=True)
        aside = np.cos(towards) * dy - np.sin(towards) * dx
        present = np.sqrt(np.clip(1 - ((s - 0.5) / 0.35) ** 2, 0.01, None))
        spot = 1 - np.hypot(radial / along, aside / across) / present
        over(np.minimum(spot * across, cavity + 1), p.dark * 1.1)

    middle = PLANES // 2
    target = np.zeros(p.size, np.uint8)
    for depth, name in ((right, "RV"), (left, "Myo"), (cavity, "LV")):
        target[depth[:, middle] > 0] = LABELS[name]
    return image.mean(1), target


def _scan(p: _Patient, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the scanner makes of it: mottle, blur, bias, Rician noise."""
    _, pixel, _ = p.spacing_mm
    image = tissue * (1 + 0.05 * p.mottle[0] + 0.07 * p.mottle[1])
    image = ndimage.gaussian_filter(image, (0, p.blur / pixel, p.blur / pixel))
    y, x = (((np.arange(n) - (n - 1) / 2) * pixel) for n in p.size[1:])
    strength, waves = p.coil
    along = np.cos(p.chest[0]) * x + np.sin(p.chest[0]) * y[:, None]
    far = np.hypot(x, y[:, None]) / 100
    image = image * np.exp(strength * along / 100 + far * _wave(waves, np.arctan2(y[:, None], x)))
    image = image * (1 + 0.04 * rng.normal(size=(len(image), 1, 1)))
    real, imaginary = p.noise * rng.normal(size=(2, *image.shape))
    return (p.gain * np.hypot(np.clip(image, 0, None) + real, imaginary)).astype(np.float32)


def _draw_waves(rng: np.random.Generator, sizes: Sequence[float]) -> np.ndarray:
    """Size and phase of the waves of 2, 3, … periods around an outline."""
    return np.stack([rng.normal(0, sizes), rng.uniform(0, 2 * np.pi, len(sizes))], 1)


def _wave(waves: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return sum(size * np.cos(k * theta + phase) for k, (size, phase) in enumerate(waves, 2))
