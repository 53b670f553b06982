"""Finding the objects of a clip: by the colour that best explains how pixels differ from behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .paints import explain
from .sampling import widened

Array = NDArray[np.float32]
Pixels = tuple[NDArray[np.intp], ...]

FAINTEST = 0.1
"""A smaller difference from the background, as a distance in RGB, is noise."""

SECOND = 0.15
"""The least area of a second object, as a share of the first one's."""

COMPACT = 0.7
"""The least share of a colour's pixels that lie together if they are an object."""

APART = 0.8
"""How far two objects' centres are apart at least, as a share of the sum of their radii."""

CANDIDATES = 3
"""So many of the most frequent colours are looked at."""

EDGE = 3
"""How far an object's soft edge lies outside the pixels that plainly have its colour."""

REACH = 2.4
"""How far from its centre an object's pixels lie, in radii of a disc of its area."""


@dataclass(frozen=True)
class Segment:
    """An object's colour and where it is.

    Attributes:
        colour: its name.
        mask: coverage in [0, 1], (n, height, width).
        x: of the centre in each frame, in pixels; held from the nearest frame where it is unseen.
        y: likewise.
        radius: of a disc of its area in each frame, in pixels.
        tint: its own mean colour in each frame, (n, 3) in [0, 1].
    """

    colour: str
    mask: Array
    x: Array
    y: Array
    radius: Array
    tint: Array


@dataclass(frozen=True)
class _Blob:
    """The pixels that plainly have one colour, and where they gather.

    Attributes:
        index: of the colour.
        core: the pixels within reach of their median position, (n, height, width).
        distance: of every pixel from that position, in radii of a disc of the core's area.
        share: of all the colour's pixels that are within reach.
        x: the median position in each frame.
        y: likewise.
        radius: of a disc of the area in each frame.
    """

    index: int
    core: Array
    distance: Array
    share: float
    x: Array
    y: Array
    radius: Array


def segments(
    frames: Array, backdrop: Array, colours: tuple[str, ...], most: int = 2
) -> list[Segment]:
    """The objects of a clip, the larger first; none where nothing stands out.

    Args:
        frames: (n, height, width, 3) in [0, 1].
        backdrop: (height, width, 3), the background alone.
        colours: the names to choose among.
        most: how many objects there can be, one or two.
    """
    form = frames.shape[:3]
    difference = frames - backdrop
    pixels = np.nonzero(np.einsum("nhwc,nhwc->nhw", difference, difference) > FAINTEST**2)
    covers, best = explain(difference[pixels], backdrop[pixels[1:]], colours)
    counts = np.bincount(best[best >= 0], minlength=len(colours))
    common = [k for k in np.argsort(-counts)[:CANDIDATES] if counts[k]]
    blobs = _objects([_blob(k, _image(pixels, best == k, form)) for k in common])[:most]
    nearest = np.minimum.reduce([blob.distance for blob in blobs], initial=REACH)
    return [
        _segment(
            frames,
            colours[blob.index],
            _image(pixels, covers[blob.index], form)
            * (widened(blob.core, EDGE) * (blob.distance <= nearest)),
        )
        for blob in blobs
    ]


def _objects(blobs: list[_Blob]) -> list[_Blob]:
    """The largest compact blob, and the next if it is no detail or edge of that one."""
    compact = [blob for blob in blobs if blob.share > COMPACT]
    compact.sort(key=lambda blob: -blob.core.sum())
    if len(compact) < 2:
        return compact
    first, second = compact[:2]
    apart = np.hypot(first.x - second.x, first.y - second.y) - APART * (
        first.radius + second.radius
    )
    large = second.core.sum() > SECOND * first.core.sum()
    return [first, second] if large and np.median(apart) > 0 else [first]


def _blob(index: int, core: Array) -> _Blob:
    x, y = _middle(core.sum(1)), _middle(core.sum(2))
    across = np.arange(core.shape[2], dtype=np.float32) - x[:, None, None]
    down = np.arange(core.shape[1], dtype=np.float32)[:, None] - y[:, None, None]
    distance = np.hypot(across, down) / (_radius(core)[:, None, None] + 1)
    near = core * (distance < REACH)
    return _Blob(index, near, distance, float(near.sum() / core.sum()), x, y, _radius(near))


def _radius(mask: Array) -> Array:
    """Of a disc of each frame's area."""
    return np.asarray(np.sqrt(mask.sum((1, 2)) / np.pi), np.float32)


def _image(pixels: Pixels, values: NDArray[Any], form: tuple[int, ...]) -> Array:
    image = np.zeros(form, np.float32)
    image[pixels] = values
    return image


def _middle(counts: Array) -> Array:
    """The median position under each row of counts, (n, length): robust against stray pixels."""
    total = counts.cumsum(1)
    return np.asarray((2 * total >= total[:, -1:]).argmax(1), np.float32)


def _segment(frames: Array, colour: str, mask: Array) -> Segment:
    area = mask.sum((1, 2))
    seen = np.flatnonzero(area > 0.1 * area.max())
    held = seen[np.abs(np.arange(len(area))[:, None] - seen).argmin(1)]
    x, y = np.arange(mask.shape[2]) + 0.5, np.arange(mask.shape[1]) + 0.5
    weight = np.maximum(area, 1e-6)
    solid = (mask > 0.8 * mask.max((1, 2), keepdims=True)).astype(np.float32)
    tint = np.einsum("nhw,nhwc->nc", solid, frames) / np.maximum(solid.sum((1, 2)), 1)[:, None]
    return Segment(
        colour,
        mask,
        ((mask.sum(1) @ x) / weight)[held].astype(np.float32),
        ((mask.sum(2) @ y) / weight)[held].astype(np.float32),
        _radius(mask)[held],
        tint[held],
    )
