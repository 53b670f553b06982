"""Arithmetic on images: reading them between their pixels, widening masks, comparing many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def weights(at: Array, length: int) -> Array:
    """Linear weights of `length` pixels at fractional positions: `at`'s form and one axis more.

    Pixel k lies at k. Beyond the first and the last pixel the weights fade to nothing.
    """
    gap = np.abs(at[..., None] - np.arange(length, dtype=np.float32))
    return np.asarray(np.clip(1 - gap, 0, None), np.float32)


def resample(images: Array, rows: Array, columns: Array) -> Array:
    """Images (n, height, width) where rows and columns cross: (n, k, l).

    Rows (k,) and columns (l,) serve all images; with a leading axis, (n, k), each its own.
    Outside an image everything is 0.
    """
    down = weights(rows, images.shape[1])
    across = weights(columns, images.shape[2])
    return np.asarray(down @ images @ np.swapaxes(across, -1, -2), np.float32)


def inner_products(a: Array, b: Array) -> Array:
    """Every row of a times every row of b, on one thread: BLAS has more, which stall when busy."""
    return np.asarray(np.einsum("ip,jp->ij", a, b), np.float32)


def widened(masks: Array, pixels: int) -> Array:
    """Masks (n, height, width) in which every pixel has its neighbourhood's largest value."""
    for axis in (1, 2):
        length = masks.shape[axis]
        border = [(pixels, pixels) if k == axis else (0, 0) for k in range(3)]
        padded = np.pad(masks, border)
        masks = np.maximum.reduce(
            [padded.take(range(k, k + length), axis) for k in range(2 * pixels + 1)]
        )
    return masks
