"""Vertebral bodies in T2-weighted MR (Zukić et al., Computer Graphics Forum 2014; zenodo 22304) to a dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from boundseg.data.convert.pairs import Layout, convert_pairs

LAYOUT = Layout(
    title="zenodo 22304",
    target="vertebrae",
    channel="T2 MR",
    images="Img_[0-9][0-9]",
    mask_suffix="_Labels",
    endings=(".nii.gz", ".nii"),
    remedy="Give the folder that holds Img_01 and Img_01_Labels.",
)


def convert_vertebrae(
    source: Path,
    destination: Path,
    targets: Sequence[str] = (),
    report: Callable[[str], None] = lambda case: None,
    seed: int = 0,
) -> str:
    """Writes a dataset folder from ``Img_NN.nii[.gz]`` and ``Img_NN_Labels.nii[.gz]``, masks of 0 and 1.

    Slices are stacked along the third axis (axial, 39 x 305 pixels), as Kervadec et al. 2019 slice them.
    Arguments, result and errors as in :func:`boundseg.data.convert.pairs.convert_pairs`.
    """
    return convert_pairs(LAYOUT, source, destination, targets, report, seed)
