"""How far arrays are from what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Deviation:
    """How far some arrays are from others, added up."""

    off: float = 0.0
    whole: float = 0.0

    def add(self, got: Array, wanted: Array) -> None:
        """Take one more pair."""
        self.off += float(np.square(got - wanted, dtype=np.float64).sum())
        self.whole += float(np.square(wanted, dtype=np.float64).sum())

    @property
    def relative(self) -> float:
        """|difference| / |wanted|, to three digits: the others are not the same twice."""
        return float(f"{np.sqrt(self.off / self.whole) if self.whole else 0.0:.3g}")


def relative(got: Array, wanted: Array) -> float:
    """|difference| / |wanted| of one pair."""
    deviation = Deviation()
    deviation.add(got, wanted)
    return deviation.relative
