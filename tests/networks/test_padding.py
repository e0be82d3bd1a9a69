from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from boundseg.networks.padding import pad_to_multiple


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 8, 16]))
def test_pads_to_the_next_multiple_and_cropping_gives_the_image_back(height: int, width: int, multiple: int) -> None:
    image = torch.randn(1, 2, height, width)
    padded = pad_to_multiple(image, multiple)
    for side, before in zip(padded.shape[-2:], (height, width), strict=True):
        assert side % multiple == 0
        assert 0 <= side - before < multiple
    assert torch.equal(padded[..., :height, :width], image)


def test_repeats_the_last_row_and_column() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    wanted = [[1.0, 2.0, 2.0], [3.0, 4.0, 4.0], [3.0, 4.0, 4.0]]
    assert pad_to_multiple(image, 3).squeeze().tolist() == wanted


def test_hands_a_fitting_image_back_untouched() -> None:
    image = torch.randn(1, 1, 8, 16)
    assert pad_to_multiple(image, 8) is image
