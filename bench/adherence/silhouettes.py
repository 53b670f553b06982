"""The shapes as signed distances, so that any size of them can be drawn without jagged edges.

A shape stands in the unit of its radius, y downwards, about the point it moves and turns by. It is
a few layers painted over each other: its body in the object's colour, details darker or lighter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, hypot, pi, sin
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Field = Callable[[Array, Array], Array]
Paint = Literal["body", "dark", "light"]

SHADES: dict[Paint, float] = {"body": 0.0, "dark": -0.38, "light": 0.38}
"""How far a paint lies from the object's colour towards black or white."""

MIRRORED = ("boat", "fish", "car")
"""Shapes that face right, and are drawn mirrored when they move left."""


@dataclass(frozen=True)
class Layer:
    """A part of a shape: `distance(x, y)` is negative inside, in radii; `paint` is its shade."""

    distance: Field
    paint: Paint = "body"


def circle(x: Array, y: Array, radius: float = 1.0, cx: float = 0.0, cy: float = 0.0) -> Array:
    """A disc about (cx, cy)."""
    return np.asarray(np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius, np.float32)


def ellipse(x: Array, y: Array, a: float, b: float, cx: float = 0.0, cy: float = 0.0) -> Array:
    """An ellipse of half axes a, b; the distance is exact to first order, at the edge."""
    x, y = x - cx, y - cy
    k = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2)
    return np.asarray(k * (k - 1) / np.maximum(slope, 1e-6), np.float32)


def box(x: Array, y: Array, a: float, b: float, cx: float = 0.0, cy: float = 0.0) -> Array:
    """An upright rectangle of half sides a, b."""
    return np.asarray(np.maximum(np.abs(x - cx) - a, np.abs(y - cy) - b), np.float32)


def triangle(x: Array, y: Array, inradius: float = 0.625) -> Array:
    """An equilateral triangle, point up, about its centre."""
    return np.asarray(np.maximum(y, np.abs(x) * 3**0.5 / 2 - y / 2) - inradius, np.float32)


def polygon(x: Array, y: Array, *corners: tuple[float, float]) -> Array:
    """A convex polygon; its corners run clockwise as seen on the screen."""
    sides = zip(corners, (*corners[1:], corners[0]), strict=True)
    beside = [_beside(x, y, start, end) for start, end in sides]
    return np.asarray(np.maximum.reduce(beside), np.float32)


def star(x: Array, y: Array, points: int, outer: float = 1.25, inner: float = 0.5625) -> Array:
    """A star of so many points, one of them up."""
    half = pi / points
    turn = np.abs((np.arctan2(x, -y) + half) % (2 * half) - half)
    rad = np.sqrt(x * x + y * y)
    edge = (inner * cos(half) - outer, inner * sin(half))
    length = hypot(*edge)
    nx, ny = edge[1] / length, -edge[0] / length
    return np.asarray((rad * np.cos(turn) - outer) * nx + rad * np.sin(turn) * ny, np.float32)


def cross(x: Array, y: Array) -> Array:
    """Two bars across each other."""
    return np.minimum(box(x, y, 1.05, 0.36), box(x, y, 0.36, 1.05))


def heart(x: Array, y: Array) -> Array:
    """A heart, after Inigo Quilez's exact one (iquilezles.org/articles/distfunctions2d)."""
    scale = 1.9
    u, v = np.abs(x) / scale, 0.65 - y / scale
    lobe = np.sqrt((u - 0.25) ** 2 + (v - 0.75) ** 2) - 2**0.5 / 4
    along = np.maximum(u + v, 0) / 2
    flank = np.minimum(u**2 + (v - 1) ** 2, (u - along) ** 2 + (v - along) ** 2)
    distance = np.where(u + v > 1, lobe, np.sqrt(flank) * np.sign(u - v))
    return np.asarray(scale * distance, np.float32)


SHAPES: dict[str, tuple[Layer, ...]] = {
    "circle": (Layer(circle),),
    "square": (Layer(partial(box, a=0.88, b=0.88)),),
    "triangle": (Layer(triangle),),
    "star": (Layer(partial(star, points=5)),),
    "cross": (Layer(cross),),
    "heart": (Layer(heart),),
    "sun": (
        Layer(partial(star, points=6, outer=1.3, inner=0.78)),
        Layer(partial(circle, radius=0.55), "light"),
    ),
    "boat": (
        Layer(lambda x, y: polygon(x, y, (-1.2, 0.15), (1.2, 0.15), (0.75, 0.85), (-0.75, 0.85))),
        Layer(partial(box, a=0.07, b=0.7, cx=-0.1, cy=-0.55), "dark"),
        Layer(lambda x, y: polygon(x, y, (0.02, -1.25), (1.0, 0.0), (0.02, 0.0)), "light"),
        Layer(lambda x, y: polygon(x, y, (-0.22, -0.9), (-0.22, 0.0), (-0.85, 0.0))),
    ),
    "fish": (
        Layer(partial(ellipse, a=0.9, b=0.62, cx=0.25)),
        Layer(lambda x, y: polygon(x, y, (-1.2, -0.65), (-0.3, 0.0), (-1.2, 0.65))),
        Layer(partial(ellipse, a=0.3, b=0.17, cx=0.1, cy=0.12), "light"),
        Layer(partial(circle, radius=0.13, cx=0.75, cy=-0.15), "dark"),
    ),
    "car": (
        Layer(lambda x, y: polygon(x, y, (-0.5, -0.65), (0.3, -0.65), (0.75, 0.0), (-0.85, 0.0))),
        Layer(partial(box, a=1.2, b=0.3, cy=0.15)),
        Layer(
            lambda x, y: polygon(x, y, (-0.4, -0.5), (0.2, -0.5), (0.45, -0.1), (-0.6, -0.1)),
            "light",
        ),
        Layer(partial(circle, radius=0.32, cx=-0.62, cy=0.45), "dark"),
        Layer(partial(circle, radius=0.32, cx=0.62, cy=0.45), "dark"),
    ),
    "tree": (
        Layer(partial(box, a=0.2, b=0.3, cy=0.95), "dark"),
        Layer(lambda x, y: polygon(x, y, (0.0, -0.65), (0.98, 0.75), (-0.98, 0.75))),
        Layer(lambda x, y: polygon(x, y, (0.0, -1.25), (0.68, -0.25), (-0.68, -0.25))),
    ),
    "balloon": (
        Layer(partial(box, a=0.26, b=0.22, cy=1.15), "dark"),
        Layer(partial(circle, radius=0.85, cy=-0.25)),
        Layer(lambda x, y: polygon(x, y, (-0.75, 0.15), (0.75, 0.15), (0.24, 0.95), (-0.24, 0.95))),
        Layer(partial(ellipse, a=0.3, b=0.85, cy=-0.25), "light"),
    ),
}
"""Every shape's layers, the first painted first."""


def outline(shape: str, x: Array, y: Array) -> Array:
    """The signed distance to the whole shape, in radii; x, y of any common form, in radii."""
    parts = [layer.distance(x, y) for layer in SHAPES[shape]]
    return np.asarray(np.minimum.reduce(parts), np.float32)


def shade(colour: Array, paint: Paint) -> Array:
    """The colour a layer is painted in; RGB in [0, 1]."""
    amount = SHADES[paint]
    target = 1.0 if amount > 0 else 0.0
    return np.asarray(colour + abs(amount) * (target - colour), np.float32)


def _beside(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """How far each point lies to the left of a side, which is outside of a clockwise polygon."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = hypot(dx, dy)
    return np.asarray((x - start[0]) * dy / length - (y - start[1]) * dx / length, np.float32)
