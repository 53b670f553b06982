"""Tiles cover a picture, and what is put together of them is the picture."""

from __future__ import annotations

from itertools import pairwise

import mutoscope
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutoscope.bench.quality.similarity import similarity
from mutoscope.kernels.tiles import add_tile, take_tile
from mutoscope.runtime.tiles import OVERLAP, Tiling, spans


@given(length=st.integers(1, 80), side=st.integers(OVERLAP, 40), scale=st.integers(1, 16))
def test_weights_add_up(length: int, side: int, scale: int) -> None:
    found = spans(length, side, scale)
    total = np.zeros(length * scale)
    for span in found:
        assert span.length == min(side, length)
        assert 0 <= span.start <= length - span.length
        assert (span.weights > 0).all()
        total[span.start * scale :][: span.length * scale] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for one, other in pairwise(found):
        assert 0 < other.start - one.start <= side - side // OVERLAP


def test_a_weight_falls_in_a_line() -> None:
    one, other = spans(14, 8, 2)
    assert (one.start, other.start) == (0, 6)
    ramp = np.array([0.875, 0.625, 0.375, 0.125], np.float32)
    np.testing.assert_allclose(one.weights, [*[1] * 12, *ramp])
    np.testing.assert_allclose(other.weights, [*ramp[::-1], *[1] * 12])


@pytest.mark.parametrize("size", [(5, 7), (8, 20), (21, 9), (30, 33)])
def test_tiles_of_a_picture_are_the_picture(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).normal(size=(1, 3, 2, *size)).astype(np.float32)
    canvas = np.zeros_like(frame)
    tiling = Tiling.of(*size, side=8, scale=1)
    for row, column in tiling.tiles:
        tile = take_tile(frame, row.start, column.start, row.length, column.length)
        add_tile(canvas, tile, row.weights, column.weights, row.start, column.start)
    np.testing.assert_allclose(canvas, frame, atol=1e-5)


def test_a_clip_in_tiles_is_nearly_the_clip() -> None:
    options = {"seed": 7, "steps": 8, "width": 128, "height": 96, "frames": 9}
    with mutoscope.load() as pipe:
        whole, tiled = (
            pipe("a red circle moves left to right", **options, vae_tile=tile).frames
            for tile in (0, 64)
        )
    assert similarity(tiled, whole).psnr >= 30
