"""Naming a motion: by the course that an object's track is most like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from . import courses
from .sampling import inner_products, weights
from .templates import SIDE
from .vocabulary import STILL

Array = NDArray[np.float32]

IN_PLACE = 9.0
"""An object whose centre strays less than this, in 64ths of the frame, stays where it is."""

RESIZED = 1.45
"""One whose radius changes by less than this factor keeps its size."""

TURNED = np.deg2rad(50)
"""One that turns by less than this over the clip does not spin."""

LIKELIER = 0.02
"""A rotation is seen if it explains this much more of an object's changing outline than rest."""

RINGS, RAYS = 10, 96


@dataclass(frozen=True)
class Movement:
    """What an object does, one value a frame, the camera's own movement taken out.

    Attributes:
        x: of its centre, in 64ths of the frame's shorter side.
        y: likewise.
        radius: likewise.
        turn: by how much it has turned at the end, in radians.
    """

    x: Array
    y: Array
    radius: Array
    turn: float


def classify(movement: Movement, motions: tuple[str, ...]) -> str:
    """The motion among those given; or "still", which is always possible."""
    strayed = max(np.ptp(movement.x), np.ptp(movement.y))
    growth = _growth(movement.radius)
    if strayed < 2 * IN_PLACE and abs(growth) > np.log(RESIZED):
        return "grow" if growth > 0 else "shrink"
    if strayed < IN_PLACE:
        return "spin" if abs(movement.turn) > TURNED else STILL
    x, y = movement.x - movement.x.mean(), movement.y - movement.y.mean()
    forms = _forms(np.linspace(0, 1, len(x)))
    return min(
        (name for name in forms if name in motions),
        key=lambda name: min(_misfit(x, y, *form) for form in forms[name]),
    )


def turned(masks: Array) -> float:
    """By how much an object turns over the clip, in radians; 0 where that cannot be told.

    The steady rotation from frame to frame under which the normalised masks, seen along rings
    about their centre, correlate best; rest, unless a rotation is clearly better.

    Args:
        masks: (n, SIDE, SIDE), from `templates.normalised`.
    """
    if len(masks) < 2:
        return 0.0
    waves = np.fft.rfft(_rings(masks), axis=-1)[..., 1:]
    power = (waves[:-1].conj() * waves[1:]).sum((0, 1))
    steps = np.deg2rad(np.linspace(-20, 20, 161)) * 16 / (len(masks) - 1)
    order = np.arange(1, power.size + 1)
    likeness = (power * np.exp(1j * order * steps[:, None])).real.sum(1)
    best = int(np.argmax(likeness))
    gain = likeness[best] - likeness[len(steps) // 2]
    if gain < LIKELIER * (np.abs(waves) ** 2).sum():
        return 0.0
    return float(steps[best]) * (len(masks) - 1)


def _growth(radius: Array) -> float:
    """The logarithm of the factor by which the radius changes, along a straight line."""
    time = np.linspace(0, 1, len(radius))
    slope, start = np.polyfit(time, radius, 1) if len(radius) > 1 else (0.0, float(radius[0]))
    return float(np.log(max(start + slope, 0.5) / max(start, 0.5)))


def _forms(time: courses.Curve) -> dict[str, list[tuple[courses.Curve, courses.Curve]]]:
    """The forms that each motion's x and y may take."""
    rest = np.zeros_like(time)
    loops = [courses.orbit(time, start) for start in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    return {
        "right": [(time, rest)],
        "left": [(-time, rest)],
        "down": [(rest, time)],
        "up": [(rest, -time)],
        "bounce": [(rest, -courses.bounce(time))],
        "fall": [(rest, courses.fall(time, landing)) for landing in np.linspace(0.4, 0.6, 5)],
        "orbit": [*loops, *((-x, y) for x, y in loops)],
    }


def _misfit(x: Array, y: Array, along: courses.Curve, down: courses.Curve) -> float:
    """What a course leaves of a track about its mean, at the amplitude that suits it best."""
    along, down = along - along.mean(), down - down.mean()
    length = max(float(along @ along + down @ down), 1e-9)
    scale = max(0.0, float(x @ along + y @ down) / length)
    return float(((x - scale * along) ** 2).sum() + ((y - scale * down) ** 2).sum())


def _rings(masks: Array) -> Array:
    """Masks along circles about their centre: (n, RINGS, RAYS)."""
    flat = inner_products(masks.reshape(len(masks), -1), _ring_weights())
    return flat.reshape(len(masks), RINGS, RAYS)


@cache
def _ring_weights() -> Array:
    """The share of each pixel of a normalised mask in each place along the rings."""
    angle = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
    radius = np.arange(1, RINGS + 1)[:, None] / RINGS * (SIDE / 2 - 1)
    places = (SIDE - 1) / 2 + radius * np.array([np.sin(angle), np.cos(angle)])[:, None]
    down, across = weights(places.reshape(2, -1).astype(np.float32), SIDE)
    return np.asarray(down[:, :, None] * across[:, None], np.float32).reshape(RINGS * RAYS, -1)
