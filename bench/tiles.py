"""Clips put together into one picture, still or moving; pixels are uint8 RGB throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
BORDER = 64
"""The gray between clips."""


def grid(clips: Sequence[Pixels], columns: int, gap: int = 2) -> Pixels:
    """Clips of one form (frames, height, width, 3), playing side by side in rows.

    Places that no clip is left for are gray.
    """
    rest = -len(clips) % columns
    blank = np.full_like(clips[0], BORDER)
    border = ((0, 0), (gap, 0), (gap, 0), (0, 0))
    framed = [np.pad(clip, border, constant_values=BORDER) for clip in [*clips, *[blank] * rest]]
    rows = [np.concatenate(framed[i : i + columns], 2) for i in range(0, len(framed), columns)]
    outer = ((0, 0), (0, gap), (0, gap), (0, 0))
    return np.pad(np.concatenate(rows, 1), outer, constant_values=BORDER)


def strip(clip: Pixels, count: int, side: int) -> Pixels:
    """Up to `count` frames, evenly over a clip, beside each other: (height, width, 3).

    Each is reduced by averaging over squares until no side is longer than `side`.
    """
    shown = spread(len(clip), count)
    return np.concatenate([_reduced(clip[i], side) for i in shown], 1)


def strip_size(frames: int, height: int, width: int, count: int, side: int) -> tuple[int, int]:
    """Height and width of a clip's strip."""
    factor = _factor(height, width, side)
    return height // factor, width // factor * len(spread(frames, count))


def spread(frames: int, count: int) -> list[int]:
    """Up to `count` places, evenly from the first frame to the last."""
    return [int(i) for i in np.linspace(0, frames - 1, min(count, frames)).round()]


def _reduced(frame: Pixels, side: int) -> Pixels:
    factor = _factor(frame.shape[0], frame.shape[1], side)
    height, width = frame.shape[0] // factor, frame.shape[1] // factor
    whole = frame[: height * factor, : width * factor]
    squares = whole.reshape(height, factor, width, factor, 3)
    return np.asarray(squares.mean((1, 3)).round(), np.uint8)


def _factor(height: int, width: int, side: int) -> int:
    return -(-max(height, width) // side)
