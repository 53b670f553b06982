"""Pictures of frames and latents, value by value."""

from __future__ import annotations

import numpy as np
import pytest
from mutoscope.kernels.frames import from_rgb8, latent_preview, to_rgb8


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1, 0), (1, 255), (0, 128), (-2, 0), (3, 255), (np.nan, 0), (np.inf, 255), (-np.inf, 0),
     (-1 + 2 / 255, 1), (1 - 2 / 255, 254), (1 - 0.9 / 255, 255), (1 - 1.1 / 255, 254)],
)  # fmt: skip
def test_rgb8_rounds_and_clips(value: float, shown: int) -> None:
    assert to_rgb8(np.full((1, 3, 1, 1, 1), value, np.float32)).tolist() == [[[[shown] * 3]]]


def test_rgb8_turns_channels_last() -> None:
    frames = np.zeros((1, 3, 2, 4, 5), np.float32)
    frames[0, 1, 1, 2, 3] = 1
    shown = to_rgb8(frames)
    assert shown.shape == (2, 4, 5, 3)
    assert shown.flags.c_contiguous
    assert np.argwhere(shown == 255).tolist() == [[1, 2, 3, 1]]


def test_preview_is_the_affine_map() -> None:
    latents = np.zeros((1, 2, 1, 1, 2), np.float32)
    latents[0, :, 0, 0, 1] = [1, -0.5]
    matrix = np.asarray([[1, 0], [0, 1], [0.5, 1]], np.float32)
    shown = latent_preview(latents, matrix, np.asarray([0, 0, -1], np.float32))
    assert shown.tolist() == [[[[128, 128, 0], [255, 64, 0]]]]


def test_pixels_come_back_from_planes() -> None:
    frames = np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(2, 16, 8, 3)
    planes = from_rgb8(frames)
    assert planes.shape == (1, 3, 2, 16, 8)
    assert (planes.min(), planes.max(), planes.dtype) == (-1, 1, np.float32)
    np.testing.assert_array_equal(to_rgb8(planes), frames)
