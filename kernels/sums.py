"""Sums in an order that only the length decides, so that every device gets the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How many partial sums a device adds at once: 256 blocks of 256 threads of 8 elements.
LANES = 256 * 256 * 8


def ordered_sum(terms: NDArray[np.float32]) -> np.float32:
    """The sum of all elements, in C order.

    Lane l adds the terms l, l + LANES, l + 2 * LANES, …; then neighbouring lanes are added in
    pairs until one is left. Missing terms are zeros, so a short array needs fewer lanes.

    Returns:
        In float32; the relative error of n positive terms is below (n / LANES + 20) * 2**-24.
    """
    lanes = min(LANES, 1 << max(terms.size - 1, 0).bit_length())
    rounds = -(-terms.size // lanes)
    padded = np.zeros(rounds * lanes, np.float32)
    padded[: terms.size] = terms.reshape(-1)
    sums = np.zeros(lanes, np.float32)
    for row in padded.reshape(rounds, lanes):
        sums += row
    while sums.size > 1:
        sums = sums[0::2] + sums[1::2]
    return np.float32(sums[0])
