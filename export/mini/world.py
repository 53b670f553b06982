"""The procedural world: a scene becomes a clip.

Scenes, shapes and colours are those of `bench.adherence`, which reads them off clips again; the
world adds how things move (`motions`) and what lies behind them (`backgrounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from ...bench.adherence.scene import Object, Scene
from ...bench.adherence.silhouettes import SHAPES, Field, Layer, circle, outline, shade
from ...bench.adherence.templates import unit_area
from ...bench.adherence.vocabulary import COLOURS
from . import backgrounds, motions

Array = NDArray[np.float32]

REACH = 1.3
"""No shape extends further than this many radii from its centre."""

LINE = 0.24
"""How wide an outline is, in radii."""


def render(
    scene: Scene,
    rng: np.random.Generator | int,
    width: int,
    height: int,
    frames: int,
    *,
    outlined: bool = False,
    melted: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw a scene: uint8 (frames, height, width, 3), RGB.

    What the scene leaves open (exact place, size, speed, clouds) is drawn from `rng`, a generator
    or a seed; the same seed gives the same clip. Objects that are `outlined` show what is behind
    them, but for a line along their edge; `melted` by 1 they are discs of the same area.
    """
    rng = np.random.default_rng(rng)
    canvas = motions.Canvas(width, height, frames)
    camera = motions.camera(scene, rng, canvas)
    seen = backgrounds.view(canvas, camera)
    image = np.empty((frames, height, width, 3), np.float32)
    image[...] = backgrounds.paint(scene.background, rng, seen)
    for item, track in zip(scene.objects, motions.tracks(scene, rng, canvas), strict=True):
        colour = _jittered(item, rng)
        layers = _outline(item.shape) if outlined else _melted(item.shape, melted)
        _draw(image, layers, colour, camera.sees(track, canvas))
    return (255 * image + 0.5).astype(np.uint8)


def _jittered(item: Object, rng: np.random.Generator) -> Array:
    """The object's colour in this clip: close to the vocabulary's."""
    noise = rng.normal(0, 0.015, 3)
    return np.clip(np.array(COLOURS[item.colour]) / 255 + noise, 0, 1).astype(np.float32)


def _outline(shape: str) -> tuple[Layer]:
    return (Layer(lambda x, y: np.abs(outline(shape, x, y) + LINE / 2) - LINE / 2),)


def _melted(shape: str, amount: float) -> tuple[Layer, ...]:
    """A shape so far on its way to a disc; details stay where they were, within what is left."""
    if not amount:
        return SHAPES[shape]
    radius = sqrt(unit_area(shape) / pi)

    def whole(x: Array, y: Array) -> Array:
        return (1 - amount) * outline(shape, x, y) + amount * circle(x, y, radius)

    details = [layer for layer in SHAPES[shape] if layer.paint != "body"]
    return (Layer(whole), *(_within(whole, layer) for layer in details))


def _within(whole: Field, detail: Layer) -> Layer:
    return Layer(lambda x, y: np.maximum(whole(x, y), detail.distance(x, y)), detail.paint)


def _draw(image: Array, layers: Sequence[Layer], colour: Array, track: motions.Track) -> None:
    """Paint a shape into every frame, only in the square it can reach."""
    side = 2 * int(np.ceil(REACH * track.radius.max() + 1))
    left = np.rint(track.x).astype(int) - side // 2
    top = np.rint(track.y).astype(int) - side // 2
    x, y = _unit_coordinates(track, left, top, side)
    radius = track.radius[:, None, None]
    patches = [
        (np.clip(0.5 - layer.distance(x, y) * radius, 0, 1)[..., None], shade(colour, layer.paint))
        for layer in layers
    ]
    for frame in range(len(image)):
        rows = slice(max(top[frame], 0), max(top[frame] + side, 0))
        columns = slice(max(left[frame], 0), max(left[frame] + side, 0))
        under = image[frame, rows, columns]
        inside = (
            slice(rows.start - top[frame], rows.start - top[frame] + under.shape[0]),
            slice(columns.start - left[frame], columns.start - left[frame] + under.shape[1]),
        )
        for cover, paint in patches:
            under += cover[frame][inside] * (paint - under)


def _unit_coordinates(
    track: motions.Track, left: NDArray[np.int_], top: NDArray[np.int_], side: int
) -> tuple[Array, Array]:
    """The pixels of each frame's square in the shape's own coordinates: (frames, side, side)."""
    grid = np.arange(side, dtype=np.float32) + 0.5
    across = ((grid + left[:, None] - track.x[:, None]) / track.radius[:, None])[:, None, :]
    down = ((grid + top[:, None] - track.y[:, None]) / track.radius[:, None])[:, :, None]
    cos, sin = np.cos(track.angle)[:, None, None], np.sin(track.angle)[:, None, None]
    x = (cos * across + sin * down) * (-1 if track.mirrored else 1)
    y = cos * down - sin * across
    return x.astype(np.float32), y.astype(np.float32)
