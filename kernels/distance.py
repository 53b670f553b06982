"""How far apart two arrays are: what a step cache decides by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .sums import ordered_sum

Array = NDArray[np.float32]


def relative_l1(current: Array, previous: Array) -> np.float32:
    """`sum |current - previous| / sum |previous|`, of arrays of one shape.

    Infinite where only `previous` is zero, NaN where both are or where either holds one. Source:
    Liu et al., 2024 (TeaCache, arXiv 2411.19108), equation 3.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = ordered_sum(np.abs(current - previous))
        return np.float32(difference / ordered_sum(np.abs(previous)))
