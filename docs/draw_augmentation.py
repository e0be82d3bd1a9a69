"""Draws what augmentation makes of a synthetic heart, and checks what is measured of it.

python docs/draw_augmentation.py [--out FOLDER]

Writes augmentation.png: the slice as it is, then turned, zoomed, bent and all together with other intensities; the mask
of the left ventricle as an outline, what is beyond the grid as a grey veil. Below each, what the mask measures through
the frame, and the classes that still count as whole where LV alone is declared.
"""

from __future__ import annotations

import argparse
import math
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from PIL import Image

from boundseg.constraints import Centroid, Frame, Groups, Size
from boundseg.data.augment import Elastic, Even, IntensityChange, Noise, Warp, mirror
from boundseg.data.batches import Batch
from boundseg.data.phantom import LABELS, heart

IGNORE = 4
LINE = "#D55E00"


def slice_of_a_heart() -> Batch:
    phantom = heart(3, shape=(128, 128))
    middle = len(phantom.image) // 2
    image = torch.from_numpy(phantom.image[middle])
    image = (image - image.mean()) / image.std()
    apart, row, column = phantom.spacing_mm
    return Batch(
        image[None, None],
        torch.from_numpy(phantom.target[middle])[None],
        Frame(
            torch.ones(1, 1, 1),
            torch.tensor([[row, column, apart]]),
            torch.ones(1, len(LABELS), dtype=torch.bool),
            torch.eye(3, 4)[None],
        ),
        Groups.each(1),
        {},
        (("heart", middle),),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    complete = tuple(name == "LV" for name in LABELS)

    def fixed(number: float) -> Even:
        return Even(number, number)

    torch.manual_seed(3)
    elastic = Elastic(displacement=7, spacing=20)
    zoom = fixed(math.log(1.2))
    plans = {
        "as it is": [],
        "rotate": [Warp(IGNORE, complete, turn=fixed(25))],
        "scale": [Warp(IGNORE, complete, zoom=zoom)],
        "elastic": [Warp(IGNORE, complete, elastic=elastic)],
        "all, and mirror, intensity, noise": [
            mirror,
            Warp(IGNORE, complete, fixed(-20), fixed(math.log(0.85)), Even(-6, 6), elastic),
            IntensityChange(gain=fixed(0.3), gamma=fixed(0.4)),
            Noise(0.15),
        ],
    }
    before = slice_of_a_heart()
    figure, axes = plt.subplots(1, len(plans), figsize=(13, 3.3))
    for axis, (name, steps) in zip(axes, plans.items(), strict=True):
        batch = before
        for step in steps:
            batch = step(batch)
        mask = (batch.labels == LABELS["LV"]).float()
        size = Size("mm2")(mask[:, None], batch.frame).item()
        row, column = Centroid("mm")(mask[:, None], batch.frame.in_plane())[0, 0].tolist()
        axis.imshow(batch.images[0, 0], cmap="gray", vmin=-1.5, vmax=3)
        axis.imshow(torch.where(batch.labels[0] == IGNORE, 1.0, torch.nan), cmap="gray_r", alpha=0.4, vmin=0, vmax=1.5)
        axis.contour(mask[0], [0.5], colors=LINE, linewidths=1.2)
        axis.set_title(name, fontsize=9)
        whole = " and ".join(n for n, w in zip(LABELS, batch.frame.whole[0], strict=True) if w and n != "background")
        axis.set_xlabel(f"LV {size:.0f} mm², centre ({row:.1f}, {column:.1f}) mm\nwhole: {whole}", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout()
    memory = BytesIO()
    figure.savefig(memory, dpi=100)
    Image.open(memory).convert("RGB").quantize(128).save(out / "augmentation.png", optimize=True)


if __name__ == "__main__":
    main()
