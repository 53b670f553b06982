"""Tiles that a picture is decoded in where it is too large for one piece, and how they blend.

Every tile is of one size. Towards a neighbour its weight falls in a line over the overlap, and the
weights of all tiles that cover a pixel add up to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAP = 4
"""A tile shares at least one part in so many with its neighbour, as diffusers' tiles do."""


@dataclass(frozen=True, eq=False)
class Span:
    """What a tile covers along one side of the picture.

    Attributes:
        start: the first latent.
        length: how many.
        weights: of its pixels, float32.
    """

    start: int
    length: int
    weights: NDArray[np.float32]


def spans(length: int, side: int, scale: int) -> list[Span]:
    """Cover one side of a picture.

    Args:
        length: of the picture, in latents.
        side: of a tile, in latents, at least `OVERLAP`.
        scale: pixels a latent.
    """
    if length <= side:
        return [Span(0, length, np.ones(length * scale, np.float32))]
    overlap = side // OVERLAP
    count = math.ceil((length - overlap) / (side - overlap))
    starts = [index * (length - side) // (count - 1) for index in range(count)]
    heights = np.zeros((count, length * scale))
    for index, start in enumerate(starts):
        rising = np.arange(side * scale) + 0.5
        falling = rising[::-1]
        edges = [rising] * (start > 0) + [falling] * (start + side < length)
        ramp = np.minimum.reduce(edges) / (overlap * scale)
        heights[index, start * scale : (start + side) * scale] = np.minimum(ramp, 1)
    weights = (heights / heights.sum(0)).astype(np.float32)
    return [
        Span(start, side, weights[index, start * scale : (start + side) * scale])
        for index, start in enumerate(starts)
    ]


@dataclass(frozen=True)
class Tiling:
    """A picture cut into rows and columns of tiles.

    Attributes:
        rows: from the top.
        columns: from the left.
        scale: pixels a latent.
    """

    rows: list[Span]
    columns: list[Span]
    scale: int

    @classmethod
    def of(cls, height: int, width: int, side: int, scale: int) -> Tiling:
        """Of a picture's height and width in latents, and of a tile's side in pixels."""
        inside = side // scale
        return cls(spans(height, inside, scale), spans(width, inside, scale), scale)

    @property
    def tiles(self) -> list[tuple[Span, Span]]:
        """Row and column of each."""
        return [(row, column) for row in self.rows for column in self.columns]
