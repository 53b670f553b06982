"""How objects and the camera move: where everything is in every frame.

Lengths are given in 64ths: of the width along x, of the height along y, of the shorter side for
radii, so that a motion fills frames of any size and form. Every motion fills the whole clip,
however many frames it has. The proportions are those the first checkpoint was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bench.adherence import courses
from ...bench.adherence.scene import Object, Scene
from ...bench.adherence.silhouettes import MIRRORED
from ...bench.adherence.vocabulary import SIZES, STILL

Array = NDArray[np.float32]
Rng = np.random.Generator

MEDIUM = SIZES["medium"][1]
PAIR_RADIUS = (7.5, 9.5)
PAIR_GROWTH = 0.65
PAIR_DISTANCE = (16.0, 18.0)
PAN = (18.0, 24.0)
ZOOM = (1.5, 1.7)


@dataclass(frozen=True)
class Canvas:
    """A clip's size in pixels, and the shorter side's 64th."""

    width: int
    height: int
    frames: int

    @property
    def unit(self) -> float:
        """Pixels in a 64th of the shorter side."""
        return min(self.width, self.height) / 64

    @property
    def time(self) -> Array:
        """The frames' times, from 0 to 1; a single frame is the beginning."""
        return np.linspace(0, 1, self.frames, dtype=np.float32)


@dataclass(frozen=True)
class Track:
    """An object's way, one value a frame: centre and radius in pixels, angle in radians."""

    x: Array
    y: Array
    radius: Array
    angle: Array
    mirrored: bool = False


@dataclass(frozen=True)
class Camera:
    """The camera's way, one value a frame: pixels it has moved to the right, and its zoom."""

    pan: Array
    zoom: Array

    def sees(self, track: Track, canvas: Canvas) -> Track:
        """An object's way as it appears in the frame."""
        x = (track.x - canvas.width / 2 - self.pan) * self.zoom + canvas.width / 2
        y = (track.y - canvas.height / 2) * self.zoom + canvas.height / 2
        return Track(x, y, track.radius * self.zoom, track.angle, track.mirrored)


@dataclass(frozen=True)
class _Course:
    """A track before it meets a canvas: 64ths of width, height and shorter side, and radians."""

    x: float | Array
    y: float | Array
    radius: float | Array
    angle: float | Array = 0.0
    around: tuple[Array, Array] | None = None


def camera(scene: Scene, rng: Rng, canvas: Canvas) -> Camera:
    """The way of the scene's camera."""
    time = canvas.time
    still = np.zeros_like(time), np.ones_like(time)
    way = rng.uniform(*PAN) * canvas.width / 64 * (time - 0.5)
    zoom = np.power(rng.uniform(*ZOOM), time)
    pan, scale = {
        "static": still,
        "pan right": (way, still[1]),
        "pan left": (-way, still[1]),
        "zoom in": (still[0], zoom),
        "zoom out": (still[0], zoom[::-1]),
    }[scene.camera]
    return Camera(pan.astype(np.float32), scale.astype(np.float32))


def tracks(scene: Scene, rng: Rng, canvas: Canvas) -> list[Track]:
    """The way of each of the scene's objects in the world, before the camera."""
    if scene.relation is None:
        item = scene.objects[0]
        course = _COURSES[item.motion](rng, canvas.time, rng.uniform(*SIZES[item.size]))
        return [_place(item, course, canvas)]
    return _pair(scene, rng, canvas)


def _pair(scene: Scene, rng: Rng, canvas: Canvas) -> list[Track]:
    """Two objects beside or above each other; what travels does so along the line between them."""
    stacked = scene.relation in ("above", "below")
    side = rng.uniform(*PAIR_DISTANCE) * (-1 if scene.relation in ("above", "left of") else 1)
    found = []
    for item, apart in zip(scene.objects, (32 + side, 32 - side), strict=True):
        course = _COURSES[item.motion](rng, canvas.time, rng.uniform(*PAIR_RADIUS))
        free = course.x if stacked else course.y
        if item.motion not in ("right", "left", "up", "down"):
            free = 32 + rng.uniform(-2, 2)
        radius = course.radius * (PAIR_GROWTH if item.motion in ("grow", "shrink") else 1)
        x, y = (free, apart) if stacked else (apart, free)
        found.append(_place(item, _Course(x, y, radius, course.angle), canvas))
    return found


def _place(item: Object, course: _Course, canvas: Canvas) -> Track:
    circling = course.around or (0.0, 0.0)
    ways = (
        course.x * canvas.width / 64 + circling[0] * canvas.unit,
        course.y * canvas.height / 64 + circling[1] * canvas.unit,
        course.radius * canvas.unit,
        course.angle,
    )
    x, y, radius, angle = (
        np.broadcast_to(np.asarray(way, np.float32), canvas.frames) for way in ways
    )
    return Track(x, y, radius, angle, item.motion == "left" and item.shape in MIRRORED)


def _across(rng: Rng, time: Array, radius: float, backwards: bool = False) -> tuple[Array, float]:
    """A straight way across the frame, and the line it keeps to."""
    inset = _inset(radius)
    start, end = rng.uniform(12, 16) + inset, rng.uniform(48, 52) - inset
    if backwards:
        start, end = end, start
    return start + (end - start) * time, 32 + rng.uniform(-6, 6)


def _right(rng: Rng, time: Array, radius: float) -> _Course:
    return _Course(*_across(rng, time, radius), radius)


def _left(rng: Rng, time: Array, radius: float) -> _Course:
    return _Course(*_across(rng, time, radius, backwards=True), radius)


def _down(rng: Rng, time: Array, radius: float) -> _Course:
    y, x = _across(rng, time, radius)
    return _Course(x, y, radius)


def _up(rng: Rng, time: Array, radius: float) -> _Course:
    y, x = _across(rng, time, radius, backwards=True)
    return _Course(x, y, radius)


def _bounce(rng: Rng, time: Array, radius: float) -> _Course:
    """Down and up twice, on the floor at a quarter and at three quarters of the clip."""
    floor = 50 - _inset(radius)
    height = min(rng.uniform(28, 33), floor - radius - 1)
    return _Course(32 + rng.uniform(-6, 6), floor - height * courses.bounce(time), radius)


def _fall(rng: Rng, time: Array, radius: float) -> _Course:
    """From rest, gathering speed; lands, springs up once to a fifth of the height, and lies."""
    inset = _inset(radius)
    top, floor = rng.uniform(12, 15) + inset, rng.uniform(49, 52) - inset
    drop = courses.fall(time, rng.uniform(0.45, 0.55))
    return _Course(32 + rng.uniform(-6, 6), top + (floor - top) * drop, radius)


def _grow(rng: Rng, time: Array, radius: float) -> _Course:
    small, large = rng.uniform(5, 7), rng.uniform(16, 19)
    return _Course(*_centre(rng), small + (large - small) * time)


def _shrink(rng: Rng, time: Array, radius: float) -> _Course:
    small, large = rng.uniform(5, 7), rng.uniform(16, 19)
    return _Course(*_centre(rng), large + (small - large) * time)


def _spin(rng: Rng, time: Array, radius: float) -> _Course:
    return _Course(*_centre(rng), radius * 1.25, np.pi * time)


def _still(rng: Rng, time: Array, radius: float) -> _Course:
    return _Course(*_centre(rng), radius)


def _orbit(rng: Rng, time: Array, radius: float) -> _Course:
    x, y = courses.orbit(time, rng.uniform(-0.25, 0.25) - np.pi / 2)
    arm = rng.uniform(14, 16)
    return _Course(32, 32, min(radius, 11), around=(arm * x, arm * y))


def _inset(radius: float) -> float:
    """How much further from the edge a large object turns, so that it stays in sight."""
    return max(0.0, 1.2 * (radius - MEDIUM))


def _centre(rng: Rng) -> tuple[float, float]:
    return 32 + rng.uniform(-3, 3), 32 + rng.uniform(-3, 3)


_COURSES: dict[str, Callable[[Rng, Array, float], _Course]] = {
    "right": _right,
    "left": _left,
    "up": _up,
    "down": _down,
    "bounce": _bounce,
    "grow": _grow,
    "shrink": _shrink,
    "spin": _spin,
    "orbit": _orbit,
    "fall": _fall,
    STILL: _still,
}
