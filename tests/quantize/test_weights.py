"""What is stored of a matrix, and what comes of it again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mutoscope.engine.weight_formats import BLOCK
from mutoscope.quantize.weights import in_blocks


def matrix(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def unpacked(stored: Any, scale: Any, bits: int, rows: int) -> Any:
    """As ONNX Runtime's documentation of MatMulNBits says; (in, out)."""
    if bits == 4:
        stored = np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:2], -1)
    values = (stored.astype(np.float32) - 2 ** (bits - 1)) * scale[..., None]
    return values.reshape(len(stored), -1)[:, :rows].T


@pytest.mark.parametrize("rows", [BLOCK, 45, 1])
@pytest.mark.parametrize(("bits", "most"), [(8, 0.005), (4, 0.09)])
def test_blocks_are_near_their_weights(bits: int, most: float, rows: int) -> None:
    weight = matrix(rows, 6)
    stored, scale = in_blocks(weight, bits)
    blocks = -(-rows // BLOCK)
    assert stored.shape == (6, blocks, BLOCK * bits // 8)
    assert scale.shape == (6, blocks)
    off = np.linalg.norm(unpacked(stored, scale, bits, rows) - weight)
    assert off <= most * np.linalg.norm(weight)


def test_the_largest_weight_of_a_block_takes_the_far_end() -> None:
    weight = np.float32([[8], [-7], [1], [0]])
    stored, scale = in_blocks(weight, 4)
    assert scale == [[-1]]
    assert stored[0, 0, :2].tolist() == [0 | 15 << 4, 7 | 8 << 4]


def test_with_few_bits_a_cut_that_helps_is_taken() -> None:
    weight = np.full((BLOCK, 1), 1.5, np.float32)
    weight[0] = 8
    stored, scale = in_blocks(weight, 4)
    off = np.square(unpacked(stored, scale, 4, BLOCK) - weight).sum()
    whole_range = 31 * 0.5**2
    assert off < 0.5 * whole_range
