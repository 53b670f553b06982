"""The background of a clip: how it looks, which one it is, and how the camera moves over it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .sampling import resample, widened
from .vocabulary import DEEP_BACKGROUNDS, PLAIN_BACKGROUNDS, RGB, Vocabulary

Array = NDArray[np.float32]

PANS = np.arange(-32, 33, 2)
"""Candidate pans over the whole clip, in 64ths of the width."""

ZOOMS = 2.0 ** np.linspace(-1, 1, 17)
"""Candidate zooms over the whole clip."""

STEPS = 4
"""A camera's movement is followed over so many parts of a clip."""

CLEARANCE = 3
"""Pixels around objects that are not taken for background."""

MOVED = 0.75
"""A camera has moved if that explains the frames this much better than rest does."""


@dataclass(frozen=True)
class CameraPath:
    """The camera's movement over the clip: `pan` to the right in pixels, `zoom` as a factor."""

    name: str = "static"
    pan: float = 0.0
    zoom: float = 1.0

    def undo(self, x: Array, y: Array, width: int, height: int) -> tuple[Array, Array, Array]:
        """Screen coordinates, one a frame, as world coordinates, and each frame's zoom.

        The widest view has the zoom 1.
        """
        time = np.linspace(0, 1, len(x), dtype=np.float32)
        zoom = np.asarray(np.power(self.zoom, time) / min(1.0, self.zoom), np.float32)
        across = (x - width / 2) / zoom + width / 2 + self.pan * (time - 0.5)
        down = (y - height / 2) / zoom + height / 2
        return across.astype(np.float32), down.astype(np.float32), zoom


def estimate(frames: Array) -> Array:
    """The background without the objects, (height, width, 3).

    Row by row what stands at the left and the right edge in most frames, and between them a
    straight blend: objects keep to the middle, or reach an edge in a few frames only.
    """
    margin = max(2, frames.shape[2] // 10)
    left = np.median(frames[:, :, :margin], axis=(0, 2))
    right = np.median(frames[:, :, -margin:], axis=(0, 2))
    share = np.linspace(0, 1, frames.shape[2], dtype=np.float32)[None, :, None]
    return (left[:, None] * (1 - share) + right[:, None] * share).astype(np.float32)


def name(backdrop: Array, vocabulary: Vocabulary) -> str:
    """The background whose colours at the top and at the bottom are nearest."""
    strip = max(1, len(backdrop) // 8)
    ends = np.concatenate(
        [np.median(backdrop[:strip], axis=(0, 1)), np.median(backdrop[-strip:], axis=(0, 1))]
    )
    known = [(word, form) for word in vocabulary.backgrounds for form in _prototypes(word)]
    distances = [np.linalg.norm(ends - form) for _, form in known]
    return known[int(np.argmin(distances))][0]


def camera(frames: Array, objects: Array) -> CameraPath:
    """How the camera moves, seen on the background only.

    Args:
        frames: (n, height, width, 3) in [0, 1].
        objects: (n, height, width) coverage of what is not background.
    """
    if len(frames) <= STEPS:
        return CameraPath()
    at = np.linspace(0, len(frames) - 1, STEPS + 1).round().astype(int)
    images = _shrunk(frames[at].mean(-1))
    clear = _shrunk(1 - np.clip(2 * widened(objects[at], CLEARANCE), 0, 1))
    scale, width = frames.shape[2] / images.shape[2], images.shape[2]
    paths = [CameraPath(f"pan {'right' if p > 0 else 'left'}", p * width / 64) for p in PANS if p]
    paths += [CameraPath(f"zoom {'in' if z > 1 else 'out'}", zoom=z) for z in ZOOMS if z != 1]
    errors = [_mismatch(images, clear, path) for path in paths]
    best = int(np.argmin(errors))
    rest = _mismatch(images, clear, CameraPath())
    if errors[best] > MOVED * rest:
        return CameraPath()
    return replace(paths[best], pan=paths[best].pan * scale)


def _prototypes(word: str) -> list[NDArray[np.float64]]:
    """The colours at the top and at the bottom, as six numbers in [0, 1]."""
    if word in PLAIN_BACKGROUNDS:
        return [_ends(PLAIN_BACKGROUNDS[word], PLAIN_BACKGROUNDS[word])]
    first, last = DEEP_BACKGROUNDS[word]
    straight = _ends(first, last)
    if word != "gradient":
        return [straight]
    slanted = straight.mean() + 0.5 * (straight - straight.mean())
    return [form for ends in (straight, slanted) for form in (ends, np.roll(ends, 3))]


def _ends(top: RGB, bottom: RGB) -> NDArray[np.float64]:
    return np.array([*top, *bottom]) / 255


def _shrunk(images: Array) -> Array:
    """Images averaged over squares of pixels, so that the shorter side has 48 to 95 of them."""
    height, width = images.shape[1:]
    step = max(1, min(height, width) // 48)
    whole = images[:, : height // step * step, : width // step * step]
    squares = whole.reshape(len(images), height // step, step, width // step, step)
    return np.asarray(squares.mean((2, 4)), np.float32)


def _mismatch(images: Array, clear: Array, path: CameraPath) -> float:
    """The mean squared difference of successive images once the path's step is undone."""
    height, width = images.shape[1:]
    zoom, pan = path.zoom ** (1 / STEPS), path.pan / STEPS
    columns = _moved(width, zoom, pan)
    rows = _moved(height, zoom, 0)
    weight = clear[:-1] * resample(clear[1:], rows, columns)
    error = (images[:-1] - resample(images[1:], rows, columns)) ** 2
    return float((weight * error).sum() / max(float(weight.sum()), 1e-6))


def _moved(length: int, zoom: float, pan: float) -> Array:
    """Where each pixel of one image appears in the next, along one axis."""
    centre = (length - 1) / 2
    return ((np.arange(length) - centre - pan) * zoom + centre).astype(np.float32)
