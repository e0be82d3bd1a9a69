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

PHASES = ("ED", "ES")

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
    if phase not in PHASES:
        raise InputError(f"There is no phase {phase!r} of a heart.", remedy=f"Use {' or '.join(PHASES)}.")
    entropy = [seed] if isinstance(seed, int) else [*seed]
    contraction = float(PHASES.index(phase))
    # Anatomy and each phase's noise have generators of their own: no draw can shift another's.
    drawn = _Patient(np.random.default_rng([*entropy, 0]), shape, slices, spacing_mm)
    noise = np.random.default_rng([*entropy, 1 + PHASES.index(phase)])
    tissue, target = _paint(drawn, contraction)
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
        """About how many mm inside of the outline; negative outside."""
        dz, dy, dx = ((p - c) / r for p, c, r in zip((z, y, x), self.centre, self.radii, strict=True))
        outline = 1 + _wave(self.waves, np.arctan2(dy, dx))
        return np.asarray((1 - np.sqrt(dz**2 + (dy**2 + dx**2) / outline**2)) * min(self.radii[1:]))


class _Patient:
    """All that is drawn of a patient, phase and noise aside.

    Lengths in mm: z runs from the first slice's upper face towards the apex, y and x from the image's
    centre. Angles turn from x to y (to the right, down). Brightness is in units of blood's.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        slices: tuple[int, int],
        spacing_mm: tuple[float, float],
    ) -> None:
        u = rng.uniform
        # the grid
        count = int(rng.integers(slices[0], slices[1], endpoint=True))
        apart, pixel = round(u(8, 10), 1), round(u(*spacing_mm), 3)
        self.spacing_mm = (apart, pixel, pixel)
        self.size = (count, *shape)
        self.shift = rng.normal(0, 0.8, (count, 2))  # every slice is another held breath

        # the left ventricle, half an ellipsoid: radius R (1 - s^power)^(1/2) from the base, s = 0, to s = 1
        above, below = rng.choice([(0, 1), (0, 2), (1, 0), (1, 1)])  # slices without cavity; ES may add one
        self.base = (above + u(0.1, 0.4)) * apart
        self.sink = u(0.3, 0.6) * apart
        self.power = u(1.8, 2.6)
        last, smallest_area = (count - below - 0.5) * apart, u(0.035, 0.07)
        self.length = (last - self.base) / (1 - smallest_area) ** (1 / self.power)
        self.radius = float(np.exp(u(np.log(16), np.log(30))))
        self.squeeze = u(0.60, 0.85)
        self.muscle = u(7, 11)
        outer = self.radius + self.muscle
        self.septum = np.pi + u(-0.5, 0.5)
        self.axis = rng.normal(0, 0.08, 2)
        room = np.maximum(np.array(shape) * pixel / 2 - outer - 4, 0)
        to_septum = np.array([np.sin(self.septum), np.cos(self.septum)])
        self.centre = np.clip(rng.normal(0, 5, 2) - 0.4 * outer * to_septum, -room, room)
        self.outline = _draw_waves(rng, (0.07, 0.03, 0.02, 0.012))
        self.thickness = _draw_waves(rng, (0.03, 0.02, 0.01))
        self.twist = u(-0.012, 0.012)
        self.trabeculae = _draw_waves(rng, 6 * (0.03,))
        self.papillary = [
            # angle from the free wall's middle, radii along and across, distance over the cavity's radius
            (side * u(0.4, 1.4), u(2.5, 6), u(2.5, 4.5), u(0.5, 0.85))
            for side in (-1, 1, *rng.choice([-1, 1], rng.integers(0, 2)))
        ]
        # the right ventricle, an ellipsoid of which the left one leaves a crescent; y, x from the left's axis
        y, x = u(0.5, 0.75) * outer * to_septum
        self.right = _Organ(
            1.0,
            (self.base + 0.1 * self.length, y, x),
            (u(0.75, 0.95) * self.length, u(0.85, 1.1) * outer, u(0.85, 1.1) * outer),
            _draw_waves(rng, (0.05, 0.05, 0.03)),
        )
        self.fat = u(0.7, 1.05), u(0, 5), _draw_waves(rng, (3.0, 2.0, 1.5))
        self.dark = u(0.28, 0.5)
        self.organs, self.atria = self._draw_organs(rng, outer)
        # direction, distance, thickness and brightness of the chest wall's fat
        self.chest = u(-2.6, -1.8), 1.25 * outer + u(8, 20), u(10, 22), u(0.7, 1.0)

        # what the scanner adds
        self.mottle = [self._draw_mottle(rng, size_mm) for size_mm in (1.6, 5.0)]
        self.coil = u(0.1, 0.5), _draw_waves(rng, (0.15, 0.08))
        self.blur = u(0.8, 1.2)
        self.noise = u(0.04, 0.09)
        self.gain = u(250, 450)

    def _draw_organs(self, rng: np.random.Generator, outer: float) -> tuple[list[_Organ], list[_Organ]]:
        u = rng.uniform
        base, apex = self.base, self.base + self.length
        roll = rng.normal(0, 0.15)

        def organ(
            value: float,
            z: float,
            angle: float,
            distance: float,
            radii: tuple[float, float, float],
            wall: float = 0.0,
            waves: tuple[float, ...] = (0.08, 0.06, 0.04),
        ) -> _Organ:
            y, x = self.centre + distance * np.array([np.sin(angle + roll), np.cos(angle + roll)])
            return _Organ(value, (z, y, x), radii, _draw_waves(rng, waves), wall)

        def blood() -> float:
            return u(0.8, 1.1)

        liver = organ(u(0.3, 0.65), apex + 15, u(1.9, 2.6), outer + u(36, 48), (u(45, 90), 40.0, 48.0))
        stomach = organ(u(0.4, 1.0), apex, u(0.7, 1.4), outer + u(20, 34), (u(30, 60), u(14, 24), u(16, 30)), wall=3.0)
        fat = [
            organ(
                u(0.45, 1.0),
                u(base, apex),
                u(-0.8, 4.0),
                outer + u(0, 25),
                (u(15, 50), ry, rx),
                waves=(0.25, 0.2, 0.15, 0.1),
            )
            for ry, rx in rng.uniform(6, 22, (rng.integers(2, 6), 2))
        ]
        # round, as bright as the cavity and in a dark wall: nothing but its place tells it from one
        decoys = [
            organ(blood(), u(base, apex), u(-0.6, 1.8), outer + u(12, 26), (u(10, 30), r, r), wall=u(3, 6))
            for r in rng.uniform(7, 16, rng.integers(0, 4))
        ]
        r = u(8, 12)
        aorta = organ(blood(), 0.0, u(0.6, 1.4), outer + u(12, 18), (1e3, r, r), wall=1.5, waves=(0.03,))
        vessels = [
            organ(blood(), u(base, apex), u(-1.6, 0.9), outer + u(6, 45), (u(8, 40), r, r * u(1, 2)))
            for r in rng.uniform(1.5, 4.5, rng.integers(3, 8))
        ]
        # both atria and the aorta's root: what slices above the ventricles show
        top = base - 12
        left = organ(blood(), top, u(0, 7), u(0, 8), (u(14, 20), 0.9 * outer, 0.75 * outer), wall=2.0)
        root = organ(blood(), top, self.septum - 1, u(15, 22), (u(14, 22), 13.0, 13.0), wall=2.0, waves=(0.03,))
        right = organ(blood(), top, self.septum, outer + u(-5, 8), (u(14, 20), 24.0, 20.0), wall=2.0)
        return [liver, stomach, *fat, *decoys, aorta, *vessels], [left, root, right]

    def _draw_mottle(self, rng: np.random.Generator, size_mm: float) -> np.ndarray:
        size_px = size_mm / self.spacing_mm[1]
        field = ndimage.gaussian_filter(rng.normal(size=self.size), (0.7, size_px, size_px))
        return np.asarray(field / field.std())


class _Canvas:
    """Slices of several planes each, painted from back to front; their mean is a thick slice."""

    def __init__(self, p: _Patient) -> None:
        count, height, width = p.size
        apart, self.pixel, _ = p.spacing_mm
        across = (np.arange(PLANES) - PLANES // 2) / PLANES * 0.8 * apart
        self.z = ((np.arange(count)[:, None] + 0.5) * apart + across)[:, :, None, None]
        self.y = (_positions(height, self.pixel) + p.shift[:, :1])[:, None, :, None]
        self.x = (_positions(width, self.pixel) + p.shift[:, 1:])[:, None, None, :]
        self.image = np.zeros((count, PLANES, height, width))

    def over(self, depth: np.ndarray, value: float | np.ndarray) -> None:
        """Covers what lies inside; a pixel on the outline is covered in part."""
        self.image += np.clip(depth / self.pixel + 0.5, 0, 1) * (value - self.image)


def _paint(p: _Patient, contraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Brightness averaged over every slice's thickness, and the classes at its middle."""
    canvas = _Canvas(p)
    _paint_surroundings(canvas, p, contraction)
    target = _paint_heart(canvas, p, contraction)
    return canvas.image.mean(1), target


def _paint_surroundings(canvas: _Canvas, p: _Patient, contraction: float) -> None:
    z, y, x = canvas.z, canvas.y, canvas.x
    canvas.image += 0.07 + 0.25 * np.clip(p.mottle[0] - 1.3, 0, 1.5)[:, None]  # the lungs and their vessels
    # The base draws the atria along when it sinks.
    for organs, sink in ((p.organs, 0.0), (p.atria, contraction * p.sink)):
        for organ in organs:
            depth = organ.depth(z - sink, y, x)
            if organ.wall > 0:
                canvas.over(depth + organ.wall, p.dark)
            canvas.over(depth, organ.value)
    angle, distance, thickness, fat = p.chest
    along, aside = _turn(y - p.centre[0], x - p.centre[1], angle)
    depth = along - distance + aside**2 / 240
    canvas.over(depth, p.dark * (1 + 0.6 * np.sin(aside / 5 + z / 9)))  # muscle and ribs
    canvas.over(depth - 9 - 2 * np.sin(aside / 11), fat * (1 + 0.15 * np.sin(aside / 13 + z / 20)))
    canvas.over(depth - 9 - thickness, 0.0)


def _paint_heart(canvas: _Canvas, p: _Patient, contraction: float) -> np.ndarray:
    below_base = canvas.z - p.base - contraction * p.sink
    length = p.length - contraction * p.sink
    dy = canvas.y - p.centre[0] - p.axis[0] * below_base
    dx = canvas.x - p.centre[1] - p.axis[1] * below_base
    rho, theta = np.hypot(dy, dx), np.arctan2(dy, dx)
    turned = theta + p.twist * below_base
    outline = _wave(p.outline, turned)

    s = np.clip(below_base / length, 0, 1)
    radius = p.radius * (1 - contraction * (1 - p.squeeze))
    inner = radius * np.sqrt(1 - s**p.power) * (1 + outline)
    # Muscle keeps its volume: around a smaller cavity of a shorter heart it is thicker.
    area = ((p.radius + p.muscle) ** 2 - p.radius**2) * p.length / length
    muscle = np.sqrt(radius**2 + area) - radius
    cap = np.clip(below_base / (length + 0.8 * muscle), 0, 1)
    outer = (radius + muscle) * np.sqrt(1 - cap**p.power) * (1 + 0.7 * outline)
    outer = outer * (1 + _wave(p.thickness, theta))
    outer = np.maximum(outer, np.where(inner > 0, inner + 0.4 * muscle, 0))

    left = np.minimum(outer - rho, below_base)
    cavity = np.minimum(inner - rho, below_base)
    right = np.minimum(p.right.depth(canvas.z, dy, dx) - 3 * contraction, below_base)
    hull = np.maximum(left, right + 2.5)
    fat, fat_mm, waves = p.fat
    around = np.maximum(fat_mm + _wave(waves, theta), 0) * np.clip(outer / p.radius, 0, 1)
    canvas.over(np.minimum(hull + around, below_base + 3), fat)
    canvas.over(np.minimum(hull + 0.8, below_base), p.dark)
    canvas.over(right, p.right.value)
    canvas.over(left, p.dark)
    # Trabeculae and papillary muscles are dark, and still the cavity's, as experts draw it.
    rough = np.maximum(_wave(p.trabeculae, turned, first=6), 0) * inner
    canvas.over(np.minimum(inner - rough - rho, below_base), 1.0)
    for angle, long, wide, out in p.papillary:
        direction = p.septum + np.pi + angle + 4 * p.twist * below_base
        along, aside = _turn(dy, dx, direction)
        along = along - out * inner.mean((2, 3), keepdims=True)
        size = np.sqrt(np.clip(1 - ((s - 0.5) / 0.35) ** 2, 0.01, None))
        spot = wide * (1 - np.hypot(along / long, aside / wide) / size)
        canvas.over(np.minimum(spot, cavity + 1), 1.1 * p.dark)

    target = np.zeros(p.size, np.uint8)
    for depth, name in ((right, "RV"), (left, "Myo"), (cavity, "LV")):
        target[depth[:, PLANES // 2] > 0] = LABELS[name]
    # the tip of a contracted cavity can lie between the centres of coarse pixels: the nearest one shows it
    cut = (np.minimum(inner, below_base)[:, PLANES // 2] > 0).any((1, 2))
    for index in np.flatnonzero(cut & ~(target == LABELS["LV"]).any((1, 2))):
        tip = np.unravel_index(cavity[index, PLANES // 2].argmax(), target.shape[1:])
        target[(index, *tip)] = LABELS["LV"]
    return target


def _scan(p: _Patient, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the scanner makes of it: mottle, blur, bias field, uneven slices, Rician noise."""
    pixel = p.spacing_mm[1]
    image = tissue * (1 + 0.05 * p.mottle[0] + 0.07 * p.mottle[1])
    image = ndimage.gaussian_filter(image, (0, p.blur / pixel, p.blur / pixel))
    y, x = _positions(p.size[1], pixel)[:, None], _positions(p.size[2], pixel)
    strength, waves = p.coil
    # The coil lies on the chest.
    along, _ = _turn(y, x, p.chest[0])
    bias = strength * along / 100 + np.hypot(y, x) / 100 * _wave(waves, np.arctan2(y, x))
    image = image * np.exp(bias) * (1 + 0.04 * rng.normal(size=(len(image), 1, 1)))
    real, imaginary = p.noise * rng.normal(size=(2, *image.shape))
    return np.asarray(p.gain * np.hypot(image + real, imaginary), np.float32)


def _positions(count: int, pixel: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * pixel


def _turn(y: np.ndarray, x: np.ndarray, angle: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along a direction and across it."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _draw_waves(rng: np.random.Generator, sizes: Sequence[float]) -> np.ndarray:
    """Size and phase of the waves of so many periods, and one more, and so on, around an outline."""
    return np.stack([rng.normal(0, sizes), rng.uniform(0, 2 * np.pi, len(sizes))], 1)


def _wave(waves: np.ndarray, theta: np.ndarray, first: int = 2) -> np.ndarray:
    total = np.zeros_like(theta)
    for periods, (size, phase) in enumerate(waves, first):
        total += size * np.cos(periods * theta + phase)
    return total
