"""Weights in 8 and 4 bits, several scales a channel: what is stored of a matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.weight_formats import BLOCK

Array = NDArray[np.float32]
SHRINK = {8: (1.0,), 4: (1.0, 0.95, 0.9, 0.85, 0.8)}
"""Shares of the range that are tried for each block: with few bits, cutting the largest pays."""


def in_blocks(weight: Array, bits: int) -> tuple[NDArray[np.uint8], Array]:
    """A matrix (in, out) in symmetric 4 or 8 bits, `BLOCK` weights of a channel to a scale.

    The form is that of ONNX Runtime's MatMulNBits: `(stored - 2^(bits - 1)) * scale`; the weight of
    the largest magnitude takes the end of the range that has one step more.

    Returns:
        The weights (out, blocks, bytes), of 4 bits two in a byte, the first in its lower half; and
        the scales (out, blocks).
    """
    rows, columns = weight.shape
    blocks = -(-rows // BLOCK)
    padded = np.zeros((columns, blocks * BLOCK), np.float32)
    padded[:, :rows] = weight.T
    values = padded.reshape(columns, blocks, BLOCK)
    scale = _best_scale(values, bits)
    stored = (_steps(values, scale, bits) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        stored = stored[..., ::2] | (stored[..., 1::2] << 4)
    return stored, scale


def _best_scale(values: Array, bits: int) -> Array:
    """The scale of each block, of those that are tried, with the least squared error."""
    largest = np.abs(values).argmax(axis=-1)[..., None]
    end = np.take_along_axis(values, largest, axis=-1)[..., 0] / np.float32(-(2 ** (bits - 1)))
    end[end == 0] = 1
    best, least = end, np.full(end.shape, np.inf, np.float32)
    for share in SHRINK[bits]:
        scale = end * np.float32(share)
        rest = _steps(values, scale, bits) * scale[..., None] - values
        error = np.square(rest).sum(axis=-1)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


def _steps(values: Array, scale: Array, bits: int) -> Array:
    """Whole numbers of steps, within the range of so many bits."""
    half = 2 ** (bits - 1)
    steps: Array = np.clip(np.rint(values / scale[..., None]), -half, half - 1)
    return steps
