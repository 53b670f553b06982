"""The numbers of eight bits that values are rounded to, times a scale: whole ones, or float8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MissingExtraError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Numbers of eight bits, as many below zero as above, that stand for values times a scale.

    Attributes:
        name: in the names of tensors.
        largest: of the numbers.
        by_channel: a matrix has a scale for each channel, and not one for all of it.
        dtype: gives the type of what is stored.
    """

    name: str
    largest: float
    by_channel: bool
    dtype: Callable[[], np.dtype[Any]]

    def scale(self, peak: ArrayLike) -> Array:
        """The scales with which the largest number stands for some magnitudes; 1 for zeros."""
        scale = np.asarray(peak, np.float32) / np.float32(self.largest)
        return np.asarray(np.where(scale == 0, np.float32(1), scale))

    def scales(self, matrix: Array) -> Array:
        """The scales (out,) or () of a matrix (in, out)."""
        return self.scale(np.abs(matrix).max(axis=0 if self.by_channel else None))

    def store(self, values: Array, scale: Array) -> NDArray[Any]:
        """The nearest numbers, ties to even; what is beyond the largest becomes that."""
        numbers, dtype = np.clip(values / scale, -self.largest, self.largest), self.dtype()
        return np.asarray(np.rint(numbers) if dtype.kind == "i" else numbers, dtype)

    def rounded(self, values: Array, scale: Array) -> Array:
        """What values become."""
        return np.asarray(self.store(values, scale).astype(np.float32) * scale)


def float8() -> np.dtype[Any]:
    """Four bits of exponent and three of mantissa, without infinities; NumPy has none of its own.

    Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning".

    Raises:
        MissingExtraError: the package `ml_dtypes` is not installed.
    """
    try:
        from ml_dtypes import float8_e4m3fn
    except ImportError:
        raise MissingExtraError("ml_dtypes", "cpu") from None
    dtype: np.dtype[Any] = np.dtype(float8_e4m3fn)
    return dtype


INT8 = Grid("int8", 127.0, by_channel=True, dtype=partial(np.dtype, np.int8))
FP8 = Grid("fp8", 448.0, by_channel=False, dtype=float8)
