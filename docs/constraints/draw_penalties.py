"""Draws value and gradient of every penalty against a size: penalties.png.

python docs/constraints/draw_penalties.py [FILE]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from boundseg.constraints import PENALTIES, Bounds
from boundseg.constraints.penalties import NEEDS, Penalty

LOWER, UPPER, MOST = 60.0, 100.0, 200.0  # px
WHOLE = 1000.0  # px in the image of which a share is one
VALUE, GRADIENT = "#0072B2", "#D55E00"  # told apart without red-green vision (Okabe and Ito)

# what each is drawn with: its third argument in px or px², and how that is written
SHOWN = {
    "quadratic": (1000.0, "scale = 1000 px²"),
    "linear": (20.0, "scale = 20 px"),
    "huber": (20.0, "scale = 20 px"),
    "log_hinge": (10.0, "softening = 10 px"),
    "log_barrier": (20.0, "scale = 20 px, t = 1.5 (pale) and 5"),
    "size_divergence": (10.0, "softening = 0.01"),
    "relative_band": (10.0, "softening = 10 px"),
}


def draw(ax: Axes, name: str) -> None:
    """One penalty: its value on the left axis, its gradient on the right one, 0 at the same height."""
    scale, written = SHOWN[name]
    penalty = PENALTIES[name]
    unit = 1 / WHOLE if NEEDS[penalty].domain == "share" else 1.0
    slopes = ax.twinx()
    ax.axvspan(LOWER * unit, UPPER * unit, color="0.9", linewidth=0)
    ax.axhline(0, color="0.6", linewidth=0.6)
    kinds: list[tuple[Penalty, float]] = [(penalty, 1.0)]
    if name == "log_barrier":
        kinds = [(partial(penalty, t=1.5), 0.4), (partial(penalty, t=5.0), 1.0)]
    for priced, alpha in kinds:
        x = (torch.arange(0, MOST, 0.1, dtype=torch.float64) * unit).requires_grad_()
        bounds = Bounds(torch.full_like(x, LOWER * unit), torch.full_like(x, UPPER * unit))
        cost = priced(x, bounds, scale * unit)
        (slope,) = torch.autograd.grad(cost.sum(), x)
        slopes.plot(x.detach(), slope, "--", color=GRADIENT, linewidth=1.3, alpha=alpha)
        ax.plot(x.detach(), cost.detach(), color=VALUE, linewidth=1.8, alpha=alpha)
    ax.set(xlim=(0, MOST * unit))
    # the last curve is the steepest; both axes end at the same multiples of their greatest number
    curves = [(ax, cost.detach()), (slopes, slope)]
    bottom = min(float(curve.min() / curve.abs().max()) for _, curve in curves)
    top = max(float(curve.max() / curve.abs().max()) for _, curve in curves)
    for side, curve in curves:
        side.set_ylim(*(float(curve.abs().max()) * 1.08 * end for end in (bottom, top)))
    for side, colour in ((ax, VALUE), (slopes, GRADIENT)):
        side.locator_params(axis="y", nbins=5)
        side.tick_params(axis="y", colors=colour, labelsize=8)
        side.spines["top"].set_visible(False)
    ax.set_xticks([0, LOWER * unit, UPPER * unit, MOST * unit])
    ax.set_xticklabels(["0", f"a = {LOWER * unit:g}", f"b = {UPPER * unit:g}", f"{MOST * unit:g}"], fontsize=8)
    ax.set_title(f"{name}\n", fontsize=10, family="monospace")
    ax.text(0.5, 1.02, written, transform=ax.transAxes, ha="center", fontsize=8, color="0.3")
    ax.set_xlabel("share of the image" if unit < 1 else "size [px]", fontsize=8)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("penalties.png")
    figure, axes = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
    for ax, name in zip(axes.flat, PENALTIES, strict=False):
        draw(ax, name)
    legend = axes.flat[len(PENALTIES)]
    legend.axis("off")
    legend.plot([], [], color=VALUE, linewidth=1.8, label="value (left axis)")
    legend.plot([], [], "--", color=GRADIENT, linewidth=1.3, label="gradient (right axis)")
    legend.fill_between([], [], color="0.9", label="within the bounds")
    legend.legend(loc="center", frameon=False, fontsize=10)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
