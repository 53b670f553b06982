"""Tiles of pictures: taken out of what is to be decoded, and blended into what was."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def take_tile(frame: Array, row: int, column: int, height: int, width: int) -> Array:
    """A tile of a latent frame (1, channels, 1, rows, columns): (1, channels, 1, height, width)."""
    return np.ascontiguousarray(frame[..., row : row + height, column : column + width])


def add_tile(canvas: Array, tile: Array, down: Array, across: Array, row: int, column: int) -> None:
    """Add a tile to a canvas, each pixel weighted by its row and its column.

    Args:
        canvas: (1, 3, frames, rows, columns), changed in place.
        tile: (1, 3, frames, height, width).
        down: float32 (height,), and
        across: float32 (width,), whose product is a pixel's weight.
        row: of the canvas, where the tile's first lies, and
        column: likewise.
    """
    height, width = tile.shape[-2:]
    place = canvas[..., row : row + height, column : column + width]
    place += tile * (down[:, None] * across)
