"""What lies behind the objects: plain colours, and landscapes that the camera can move over.

A landscape is a function of world coordinates, evaluated where the camera looks, so that panning
and zooming keep every edge sharp. Lengths are 64ths of the frame's shorter side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bench.adherence.vocabulary import DEEP_BACKGROUNDS, PLAIN_BACKGROUNDS
from .motions import Camera, Canvas

Array = NDArray[np.float32]
Places = NDArray[np.float64]
Rng = np.random.Generator

CLOUD = (246, 248, 250)
HILL = (112, 128, 108)
ISLAND = (98, 122, 132)
STAR = (250, 248, 225)
WAVE = (120, 165, 190)


@dataclass(frozen=True)
class View:
    """Where each frame's pixels lie in the world, in 64ths of the shorter side.

    Attributes:
        x: (views, 1, width); one view where the camera does not move, else one a frame.
        y: (views, height, 1).
        time: (frames, 1, 1), from 0 to 1.
        width: of the frame.
        height: of the frame.
        unit: pixels in a 64th.
    """

    x: Array
    y: Array
    time: Array
    width: float
    height: float
    unit: float


def view(canvas: Canvas, camera: Camera) -> View:
    """What the camera sees of the world."""
    views = canvas.frames if np.ptp(camera.pan) or np.ptp(camera.zoom) else 1
    pan, zoom = (way[:views, None, None] for way in (camera.pan, camera.zoom))
    column = np.arange(canvas.width, dtype=np.float32) + 0.5 - canvas.width / 2
    row = (np.arange(canvas.height, dtype=np.float32) + 0.5 - canvas.height / 2)[:, None]
    unit = np.float32(canvas.unit)
    return View(
        (column / zoom + pan + canvas.width / 2) / unit,
        (row / zoom + canvas.height / 2) / unit,
        canvas.time[:, None, None],
        canvas.width / canvas.unit,
        canvas.height / canvas.unit,
        canvas.unit,
    )


def paint(name: str, rng: Rng, seen: View) -> Array:
    """A background, float32 in [0, 1]; it broadcasts to (frames, height, width, 3)."""
    if name in PLAIN_BACKGROUNDS:
        return _rgb(PLAIN_BACKGROUNDS[name])[None, None, None]
    return _LANDSCAPES[name](rng, seen)


def _gradient(rng: Rng, seen: View) -> Array:
    """From dark to light along any direction within 40 degrees of upright, either end up."""
    angle = np.deg2rad(rng.uniform(-40, 40))
    across, along = float(np.sin(angle)), float(np.cos(angle))
    way = (seen.x / seen.width - 0.5) * across + (seen.y / seen.height - 0.5) * along
    share = 0.5 + way / (abs(across) + along) * int(rng.choice([-1, 1]))
    dark, light = map(_rgb, DEEP_BACKGROUNDS["gradient"])
    return _blend(dark, light, share)


def _ground(rng: Rng, seen: View) -> Array:
    top, bottom = map(_rgb, DEEP_BACKGROUNDS["ground"])
    horizon = seen.height * rng.uniform(0.66, 0.74)
    image = _sky(rng, seen, top, horizon)
    ridge = horizon - 4 - _ripple(rng, seen.x, 3.0, 45) - _ripple(rng, seen.x, 1.5, 17)
    image = _blend(image, _rgb(HILL), _edge(seen, seen.y - ridge))
    nearness = np.clip((seen.y - horizon) / (seen.height - horizon), 0, 1)
    earth = _blend(bottom * 0.82, bottom, nearness)
    return _blend(image, earth, _edge(seen, seen.y - horizon))


def _sea(rng: Rng, seen: View) -> Array:
    top, bottom = map(_rgb, DEEP_BACKGROUNDS["sea"])
    horizon = seen.height * rng.uniform(0.42, 0.5)
    image = _sky(rng, seen, top, horizon)
    shore = _ripple(rng, seen.x, 4.0, 53) + _ripple(rng, seen.x, 1.2, 19) - 1
    image = _blend(image, _rgb(ISLAND), _edge(seen, seen.y - horizon + shore))
    depth = np.clip((seen.y - horizon) / (seen.height - horizon), 0, 1)
    swell = _ripple(rng, seen.x, 0.9, 29, turns=seen.time)
    waves = np.sin(2 * np.pi * (4 * np.sqrt(depth) - seen.time) + swell)
    water = _blend(_rgb(WAVE) * 0.8, bottom, np.sqrt(depth))
    water = _blend(water, _rgb(WAVE), 0.2 * np.clip(2 * waves - 0.8, 0, 1))
    return _blend(image, water, _edge(seen, seen.y - horizon))


def _night(rng: Rng, seen: View) -> Array:
    top, bottom = map(_rgb, DEEP_BACKGROUNDS["night"])
    image = _blend(top, bottom, seen.y / seen.height)
    count = round(12 * seen.width * seen.height / 64**2)
    x = rng.uniform(-0.4, 1.4, 2 * count) * seen.width
    y = rng.uniform(0.0, 1.0, 2 * count) * seen.height
    size = rng.uniform(0.8, 1.3, 2 * count)
    return _blend(image, _rgb(STAR), np.clip(1.3 * _dots(seen, x, y, size, size), 0, 1))


def _sky(rng: Rng, seen: View, top: Array, horizon: float) -> Array:
    """A sky that pales towards the horizon, with clouds in its upper part."""
    image = _blend(top, 0.5 * top + 0.47, np.clip(seen.y / horizon, 0, 1))
    puffs = 6
    x = np.repeat(rng.uniform(-0.3, 1.3, puffs), 3) * seen.width + rng.uniform(-5, 5, 3 * puffs)
    y = np.repeat(rng.uniform(0.1, 0.6, puffs), 3) * horizon + rng.uniform(-1, 1, 3 * puffs)
    cover = _dots(seen, x, y, rng.uniform(3, 5, 3 * puffs), rng.uniform(1.5, 2.2, 3 * puffs))
    return _blend(image, _rgb(CLOUD), np.clip(2.5 * cover - 1, 0, 1))


def _dots(seen: View, x: Places, y: Places, a: Places, b: Places) -> Array:
    """The sum of Gaussian spots of half widths a, b about x, y: (views, height, width)."""
    across = np.exp(-(((seen.x - x[:, None]) / a[:, None]) ** 2))
    down = np.exp(-(((seen.y - y) / b) ** 2))
    return np.asarray(down.astype(np.float32) @ across.astype(np.float32), np.float32)


def _ripple(rng: Rng, x: Array, height: float, length: float, turns: Array | float = 0) -> Array:
    phase = rng.uniform(0, 1)
    return np.asarray(height * np.sin(2 * np.pi * (x / length + phase - turns)), np.float32)


def _edge(seen: View, depth: Array) -> Array:
    """The coverage of what lies below an edge, `depth` below it in 64ths."""
    return np.asarray(np.clip(0.5 + depth * seen.unit, 0, 1), np.float32)


def _blend(below: Array, above: Array, share: NDArray[np.floating[Any]]) -> Array:
    share = np.asarray(share, np.float32)[..., None]
    return below + share * (above - below)


def _rgb(colour: tuple[int, int, int]) -> Array:
    return np.array(colour, np.float32) / np.float32(255)


_LANDSCAPES: dict[str, Callable[[Rng, View], Array]] = {
    "gradient": _gradient,
    "ground": _ground,
    "night": _night,
    "sea": _sea,
}
