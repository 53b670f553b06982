"""Naming a shape: by the template, turned and blurred as need be, that its mask is most like."""

from __future__ import annotations

from functools import cache
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from .sampling import inner_products, resample
from .segment import Segment
from .silhouettes import MIRRORED, outline

Array = NDArray[np.float32]

SIDE = 28
"""Pixels along a side of a normalised mask."""

SPAN = 2.1
"""Half a side of a normalised mask, in radii of a disc of the object's area."""

TURNS = 36
BLURS = (0.08, 0.16)
"""Standard deviations in the same radii: a sharp clip and a soft one."""

MELTED = (1.0, 0.7, 0.5)
"""How much of a shape's corners is left: generated ones are rounded, and still seen as corners."""

CLOSE = 3.0
"""A misfit below this, in pixels of a normalised mask, makes little difference any more."""

TILTED = 0.3 / 30**2
"""What a tilt in degrees, squared, adds to the logarithm of a misfit: things stand upright."""


def normalised(segment: Segment) -> Array:
    """The object's mask in every frame, centred and scaled to one area: (n, SIDE, SIDE)."""
    grid = _grid()
    x = segment.x[:, None] - 0.5 + segment.radius[:, None] * grid
    y = segment.y[:, None] - 0.5 + segment.radius[:, None] * grid
    return resample(segment.mask, y, x)


def recognise(masks: Array, radius: Array, shapes: tuple[str, ...], *, upright: bool) -> str:
    """The shape that the normalised masks show.

    Misfits are summed as logarithms, so that a few clear frames outweigh many vague ones, and
    large views count for more.

    Args:
        masks: (n, SIDE, SIDE), from `normalised`.
        radius: (n,), in pixels.
        shapes: the names to choose among.
        upright: whether the object does not turn, so that a template should not be tilted much.
    """
    flat = masks.reshape(len(masks), -1)
    weight = np.clip(radius / np.median(radius), 0, 1.5) ** 2
    forms, starts = _bank(shapes)
    misfits = np.minimum.reduceat(_misfits(flat, forms, upright), starts, axis=1)
    return shapes[int(np.argmin(weight @ misfits))]


@cache
def unit_area(shape: str) -> float:
    """The area of a shape of radius 1."""
    grid = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    return float((outline(shape, grid[None], grid[:, None]) < 0).sum()) * 0.01**2


def _misfits(flat: Array, forms: Array, upright: bool) -> Array:
    """The logarithm of each mask's squared distance to each form in its best turn."""
    inner = inner_products(forms.reshape(-1, SIDE**2), flat).reshape(*forms.shape[:2], -1)
    squares = (forms**2).sum(-1)[..., None] - 2 * inner + (flat**2).sum(1)
    misfit = np.log(np.maximum(squares, 0) + CLOSE)
    if upright:
        degrees = 360 / TURNS * np.arange(TURNS)
        misfit += TILTED * np.minimum(degrees, 360 - degrees)[:, None] ** 2
    return np.asarray(misfit.min(1).T, np.float32)


@cache
def _bank(shapes: tuple[str, ...]) -> tuple[Array, list[int]]:
    """All forms of the shapes, (forms, TURNS, SIDE²), and where each shape's begin."""
    forms = [_forms(shape) for shape in shapes]
    return np.concatenate(forms), [0, *np.cumsum([len(form) for form in forms[:-1]])]


def _forms(shape: str) -> Array:
    """A shape in every turn: blurred, melted and, where it matters, mirrored."""
    forms = []
    for mirrored in (False, True) if shape in MIRRORED else (False,):
        turns = np.stack([_drawn(shape, k * 2 * np.pi / TURNS, mirrored) for k in range(TURNS)])
        round_ = turns.mean(0)
        for corners in MELTED:
            melted = round_ + np.float32(corners) * (turns - round_)
            forms += [(_blur(b) @ melted @ _blur(b)).reshape(TURNS, -1) for b in BLURS]
    return np.stack(forms)


def _drawn(shape: str, angle: float, mirrored: bool) -> Array:
    """One sharp template, drawn about the centre of the shape's area."""
    fine = 3
    grid = _grid(fine * SIDE) * np.float32(np.sqrt(unit_area(shape) / np.pi))
    cx, cy = _centroid(shape)
    x, y = cos(angle) * grid[None], cos(angle) * grid[:, None]
    x, y = x + sin(angle) * grid[:, None], y - sin(angle) * grid[None]
    inside = outline(shape, (-x if mirrored else x) + cx, y + cy) < 0
    return np.asarray(inside.reshape(SIDE, fine, SIDE, fine).mean((1, 3)), np.float32)


@cache
def _centroid(shape: str) -> tuple[float, float]:
    grid = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    row, column = np.nonzero(outline(shape, grid[None], grid[:, None]) < 0)
    return float(grid[column].mean()), float(grid[row].mean())


@cache
def _blur(width: float) -> Array:
    """A matrix that blurs one axis of a template by a Gaussian."""
    grid = _grid()
    kernel = np.exp(-((grid[:, None] - grid) ** 2) / (2 * width**2))
    return np.asarray(kernel / kernel.sum(1, keepdims=True), np.float32)


def _grid(side: int = SIDE) -> Array:
    """The centres of a normalised mask's pixels along one axis, in radii."""
    share = (np.arange(side) + 0.5) / side
    return ((2 * share - 1) * SPAN).astype(np.float32)
