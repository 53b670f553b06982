"""Weighted sums of arrays: what a scheduler's step is, once its coefficients are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def combine(coefficients: NDArray[np.float64], arrays: Sequence[Array]) -> tuple[Array, ...]:
    """New arrays, each a weighted sum of the given ones: one pass over all of them on a device.

    Args:
        coefficients: (outputs, inputs), one row for each sum; rounded to float32 first.
        arrays: the inputs, float32, all of one shape; not changed.

    Returns:
        One float32 array for each row, added up in the order of the inputs.
    """
    weights = coefficients.astype(np.float32)
    return tuple(_weighted_sum(row, arrays) for row in weights)


def _weighted_sum(weights: NDArray[np.float32], arrays: Sequence[Array]) -> Array:
    total: Array = weights[0] * arrays[0]
    for weight, array in zip(weights[1:], arrays[1:], strict=True):
        total += weight * array
    return total
