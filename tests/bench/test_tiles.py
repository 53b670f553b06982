"""Clips side by side."""

from __future__ import annotations

import numpy as np
import pytest
from mutoscope.bench.tiles import BORDER, grid, spread, strip, strip_size


def test_grid() -> None:
    clips = [np.full((2, 3, 4, 3), level, np.uint8) for level in (10, 20, 30)]
    picture = grid(clips, columns=2, gap=1)
    assert picture.shape == (2, 1 + 2 * (3 + 1), 1 + 2 * (4 + 1), 3)
    assert (picture[:, 1:4, 1:5] == 10).all()
    assert (picture[:, 1:4, 6:10] == 20).all()
    assert (picture[:, 5:8, 1:5] == 30).all()
    assert (picture[:, 5:8, 6:10] == BORDER).all()
    assert (picture[:, ::4] == BORDER).all()
    assert (picture[:, :, ::5] == BORDER).all()


@pytest.mark.parametrize(
    ("frames", "count", "shown"), [(17, 5, [0, 4, 8, 12, 16]), (3, 5, [0, 1, 2]), (1, 5, [0])]
)
def test_spread(frames: int, count: int, shown: list[int]) -> None:
    assert spread(frames, count) == shown


@pytest.mark.parametrize(("side", "size"), [(6, (4, 12)), (4, (2, 6)), (2, (1, 4))])
def test_strip(side: int, size: tuple[int, int]) -> None:
    """Frames of 4x6, reduced by 1, 2 and 3; pixels that do not fill a square are left out."""
    clip = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    picture = strip(clip, 2, side)
    assert picture.shape == (*size, 3) == (*strip_size(5, 4, 6, 2, side), 3)
    factor = -(-6 // side)
    first = clip[-1, :factor, :factor].mean((0, 1)).round()
    assert (picture[0, size[1] // 2] == first).all()
