"""PROMISE12 (prostate, T2-weighted MR; Litjens et al., Medical Image Analysis 2014) to a dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from boundseg.data.convert.pairs import Layout, convert_pairs

LAYOUT = Layout(
    title="PROMISE12",
    target="prostate",
    channel="T2 MR",
    images="Case[0-9][0-9]",
    mask_suffix="_segmentation",
    endings=(".mhd", ".mha", ".nii.gz", ".nii"),
    remedy="Give the folder of the training data (50 cases, or their three parts); test cases have no masks.",
)


def convert_promise12(
    source: Path,
    destination: Path,
    targets: Sequence[str] = (),
    report: Callable[[str], None] = lambda case: None,
    seed: int = 0,
) -> str:
    """Writes a dataset folder from ``CaseNN.mhd`` and ``CaseNN_segmentation.mhd``, voxels in .raw or .zraw.

    Volumes become ``.nii.gz``: training then needs no SimpleITK, and nnU-Net reads them. MetaImage needs it here.
    Arguments, result and errors as in :func:`boundseg.data.convert.pairs.convert_pairs`.
    """
    return convert_pairs(LAYOUT, source, destination, targets, report, seed)
