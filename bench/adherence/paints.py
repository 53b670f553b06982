"""Telling pixels' colours apart: how much of which object's paint lies over the background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .silhouettes import SHADES, shade
from .vocabulary import COLOURS

Array = NDArray[np.float32]

UNEXPLAINED = 0.45
"""A colour explains a difference from the background if at most this share is left over."""

DETAIL = 0.15
"""A darker or lighter shade has to explain a difference better by this much than a plain colour."""

LIKE = 0.3
"""A pixel plainly has a colour where it is no further from it than this in RGB."""

CLOSER = 0.5
"""And where that is at most this share of its distance from the background."""


def explain(
    difference: Array, behind: Array, colours: tuple[str, ...]
) -> tuple[Array, NDArray[np.intp]]:
    """How far each colour covers each pixel, (colours, k), and which one it plainly has, or -1.

    A pixel is told from a blend of its background with a colour in any of the shades that shapes
    are painted in; `difference` and `behind` are (k, 3).
    """
    palette = np.array([[shade(_rgb(colour), paint) for colour in colours] for paint in SHADES])
    strength = _dot(difference, difference)
    along = _against(palette, difference) - _dot(difference, behind)
    length = (palette**2).sum(-1)[..., None] - 2 * _against(palette, behind)
    length = np.maximum(length + _dot(behind, behind), 1e-6)
    rest = strength - along**2 / length
    rest[1:] += DETAIL**2 * strength
    paint = np.where(rest[0] < UNEXPLAINED**2 * strength, 0, rest.argmin(0))
    cover = np.take_along_axis(along / length, paint[None], 0)[0]
    explained = rest.min(0) < UNEXPLAINED**2 * strength
    best = rest.min(0).argmin(0)
    gap = np.choose(best, (strength - 2 * along + length).min(0))
    plain = np.choose(best, explained) & (gap < np.minimum(LIKE**2, CLOSER**2 * strength))
    cover = np.where(explained, np.clip(cover, 0, 1), 0)
    return np.asarray(cover, np.float32), np.where(plain, best, -1)


def _rgb(colour: str) -> Array:
    return np.array(COLOURS[colour], np.float32) / np.float32(255)


def _against(palette: Array, pixels: Array) -> Array:
    """Each paint times each pixel, (paints, colours, k): by hand, as 3 is little for a matrix."""
    return np.asarray(sum(palette[..., c, None] * pixels[:, c] for c in range(3)), np.float32)


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("...c,...c->...", a, b), np.float32)
