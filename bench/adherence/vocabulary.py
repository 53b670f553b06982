"""The words of the embedded model's world: what can be in a scene, and which colours it has.

The world that draws training clips and the scorer that reads generated ones both take them from
here. The order of a tuple matters: `held_out` counts by it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (225, 30, 35),
    "orange": (250, 130, 10),
    "yellow": (245, 225, 40),
    "green": (30, 170, 60),
    "cyan": (40, 215, 225),
    "blue": (40, 80, 245),
    "purple": (130, 45, 200),
    "pink": (250, 110, 190),
}
PLAIN_BACKGROUNDS: dict[str, RGB] = {
    "black": (8, 8, 10),
    "gray": (105, 105, 108),
    "white": (240, 240, 238),
    "navy": (18, 24, 72),
}
DEEP_BACKGROUNDS: dict[str, tuple[RGB, RGB]] = {
    "gradient": ((45, 45, 55), (205, 205, 210)),
    "ground": ((150, 195, 235), (150, 120, 85)),
    "night": ((8, 10, 34), (44, 32, 84)),
    "sea": ((190, 210, 230), (25, 75, 115)),
}
"""The colours at the two ends, for all but "gradient" at the top and at the bottom edge."""

TEXTURED_BACKGROUNDS = ("ground", "night", "sea")
"""Those with landmarks, by which a movement of the camera can be seen."""

PLAIN_SHAPES = ("circle", "square", "triangle", "star", "cross")
DRAWN_SHAPES = ("heart", "sun", "boat", "fish", "car", "tree", "balloon")
MOTIONS = ("right", "left", "up", "down", "bounce", "grow", "shrink", "spin", "orbit", "fall")
STILL = "still"

RELATIONS = ("above", "below", "left of", "right of")
INVERSE_RELATIONS = dict(zip(RELATIONS, ("below", "above", "right of", "left of"), strict=True))
CAMERAS = ("static", "pan left", "pan right", "zoom in", "zoom out")

PAIR_MOTIONS: dict[str, tuple[str, ...]] = {
    "above": (STILL, "spin", "grow", "shrink", "right", "left"),
    "below": (STILL, "spin", "grow", "shrink", "right", "left"),
    "left of": (STILL, "spin", "grow", "shrink", "up", "down"),
    "right of": (STILL, "spin", "grow", "shrink", "up", "down"),
}
"""What the first of two objects can do so that the relation stays true; the second is still."""

CAMERA_MOTIONS: dict[str, tuple[str, ...]] = {
    "static": (*MOTIONS, STILL),
    "pan left": (STILL, "spin", "bounce", "left"),
    "pan right": (STILL, "spin", "bounce", "right"),
    "zoom in": (STILL, "spin"),
    "zoom out": (STILL, "spin"),
}
"""What an object can do under a moving camera and stay in sight."""

SIZES: dict[str, tuple[float, float]] = {
    "small": (6.5, 8.0),
    "medium": (9.5, 12.5),
    "large": (15.0, 18.0),
}
"""The range of an object's radius, in 64ths of the frame's shorter side."""

SIZED_MOTIONS = ("right", "left", "up", "down", "bounce", "fall", STILL)
"""Those that keep the radius a size word promises."""

SPINLESS_SHAPES = ("circle", "sun")
"""Shapes that look the same when turned, so that a spin of theirs cannot be seen."""


@dataclass(frozen=True)
class Vocabulary:
    """The part of the world a model was trained on: the answers a reading may give."""

    shapes: tuple[str, ...]
    motions: tuple[str, ...]
    backgrounds: tuple[str, ...]
    sizes: tuple[str, ...] = ("medium",)
    relations: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ("static",)
    colours: tuple[str, ...] = tuple(COLOURS)


PLAIN = Vocabulary(PLAIN_SHAPES, MOTIONS[:9], tuple(PLAIN_BACKGROUNDS))
"""One object of five shapes on a plain background."""

FULL = Vocabulary(
    PLAIN_SHAPES + DRAWN_SHAPES,
    (*MOTIONS, STILL),
    (*PLAIN_BACKGROUNDS, *DEEP_BACKGROUNDS),
    tuple(SIZES),
    RELATIONS,
    CAMERAS,
)
"""The whole world."""

MOST_WORDS = 4096
"""The world's tokenizers have hundreds of tokens, those of a language tens of thousands."""


def vocabulary_of(words: Collection[str]) -> Vocabulary | None:
    """The part of the world that a model was made for, told by its tokenizer's words.

    `None` for a model of something else: what it shows cannot be read with these words alone.
    """
    if len(words) > MOST_WORDS:
        return None
    for vocabulary in (FULL, PLAIN):
        needed = {*vocabulary.shapes, *vocabulary.colours, *vocabulary.backgrounds}
        if needed <= set(words):
            return vocabulary
    return None
