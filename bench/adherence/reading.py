"""Reading a clip: what it shows, from its frames alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from . import backdrop, motion, templates
from .segment import Segment, segments
from .vocabulary import FULL, SIZES, TEXTURED_BACKGROUNDS, Vocabulary

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Sighting:
    """An object that was seen.

    Attributes:
        shape: its name.
        colour: its name.
        motion: its name, or "still".
        size: its name.
        x: of its centre over the clip, in pixels.
        y: likewise.
        colour_drift: how far its colour strays from its mean over the clip, RMS, 0 to 255.
        area_drift: how far its area strays from a steady course over the clip, RMS, as a share.
    """

    shape: str
    colour: str
    motion: str
    size: str
    x: float
    y: float
    colour_drift: float
    area_drift: float


@dataclass(frozen=True)
class Reading:
    """What a clip shows: none to two objects, the larger first, the background and the camera."""

    objects: tuple[Sighting, ...]
    background: str
    camera: str


def measure(frames: NDArray[np.uint8], vocabulary: Vocabulary = FULL) -> Reading:
    """Read a clip by plain image processing.

    Args:
        frames: uint8 (n, height, width, 3), RGB.
        vocabulary: the answers to choose among: what the model was trained on.

    Raises:
        UserError: frames of another form.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise UserError(
            f"frames are {frames.dtype} {frames.shape}; give uint8 (frames, height, width, 3)"
        )
    images = np.asarray(frames / np.float32(255), np.float32)
    behind = backdrop.estimate(images)
    place = backdrop.name(behind, vocabulary)
    found = segments(images, behind, vocabulary.colours, most=2 if vocabulary.relations else 1)
    path = backdrop.CameraPath()
    if place in TEXTURED_BACKGROUNDS and len(vocabulary.cameras) > 1:
        covered = np.maximum.reduce([s.mask for s in found], initial=0.0)
        path = backdrop.camera(images, np.broadcast_to(covered, images.shape[:3]))
    sightings = tuple(_sighting(segment, path, vocabulary) for segment in found)
    return Reading(sightings, place, path.name)


def relation(first: Sighting, second: Sighting) -> str:
    """Where the first object is to the second."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def _sighting(segment: Segment, path: backdrop.CameraPath, vocabulary: Vocabulary) -> Sighting:
    height, width = segment.mask.shape[1:]
    unit = min(height, width) / 64
    masks = templates.normalised(segment)
    turn = motion.turned(masks)
    shape = templates.recognise(
        masks, segment.radius, vocabulary.shapes, upright=abs(turn) < motion.TURNED
    )
    x, y, zoom = path.undo(segment.x, segment.y, width, height)
    radius = segment.radius / zoom
    movement = motion.Movement(x / unit, y / unit, radius / unit, turn)
    drawn = float(np.median(radius)) / unit * np.sqrt(np.pi / templates.unit_area(shape))
    return Sighting(
        shape,
        segment.colour,
        motion.classify(movement, vocabulary.motions),
        _size(drawn, vocabulary.sizes),
        float(segment.x.mean()),
        float(segment.y.mean()),
        _colour_drift(segment.tint),
        _area_drift(segment.radius),
    )


def _size(radius: float, sizes: tuple[str, ...]) -> str:
    """The size whose middle is nearest, for a radius in 64ths of the shorter side."""
    return min(sizes, key=lambda size: abs(np.log(radius / np.sqrt(np.prod(SIZES[size])))))


def _colour_drift(tint: Array) -> float:
    return float(255 * np.sqrt(((tint - tint.mean(0)) ** 2).sum(1).mean()))


def _area_drift(radius: Array) -> float:
    """The area's RMS distance, relative to it, from the steady growth of the radius that fits."""
    time = np.linspace(0, 1, len(radius))
    steady = np.polyval(np.polyfit(time, radius, min(1, len(radius) - 1)), time)
    return float(np.sqrt(np.mean((radius**2 / np.maximum(steady, 0.5) ** 2 - 1) ** 2)))
