"""Scoring: how far a clip shows the scene it was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from .reading import Reading, Sighting, measure, relation
from .scene import Object, Scene
from .vocabulary import FULL, SIZED_MOTIONS, TEXTURED_BACKGROUNDS, Vocabulary

ATTRIBUTES = (
    "shape",
    "colour",
    "motion",
    "size",
    "background",
    "camera",
    "objects",
    "relation",
)

MOVEMENTS = ("motion", "camera")
MOVING = 5
"""The fewest frames in which movements can be told apart."""


@dataclass(frozen=True)
class Score:
    """A clip's reading, and for each attribute that was asked for whether it is right."""

    reading: Reading
    right: dict[str, bool]


@dataclass(frozen=True)
class Tally:
    """How many of the clips that an attribute was asked of show it."""

    right: int
    asked: int

    @property
    def fraction(self) -> float:
        """The share that is right; 0 where nothing was asked."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Adherence:
    """How well many clips show what was asked for.

    Attributes:
        tallies: by attribute, for those that were asked for at all.
        clips: how many were scored, and how many of them show everything.
        colour_drift: the objects' mean drift of colour over a clip, 0 to 255.
        area_drift: the objects' mean drift of area over a clip, as a share of the area.
    """

    tallies: dict[str, Tally]
    clips: Tally
    colour_drift: float
    area_drift: float

    @property
    def answers(self) -> Tally:
        """All attributes of all clips together."""
        tallies = self.tallies.values()
        return Tally(sum(tally.right for tally in tallies), sum(tally.asked for tally in tallies))


def score(frames: NDArray[np.uint8], expected: Scene, vocabulary: Vocabulary = FULL) -> Score:
    """Compare what a clip shows with what was asked for.

    Asked for are the shape and colour of the object, its motion, and the background; its size
    where the vocabulary has several and the motion keeps it; the camera before backgrounds that
    show its movement. Of two objects the shapes count as one answer and the colours as one; then
    the motion of the first, and how they stand to each other. Where a vocabulary has two objects,
    their number is asked for too. Clips of less than `MOVING` frames are asked for no movement.

    Raises:
        UserError: frames that are not uint8 (n, height, width, 3).
    """
    reading = measure(frames, vocabulary)
    right = dict(_compare(reading, expected, vocabulary))
    if len(frames) < MOVING:
        right = {attribute: right[attribute] for attribute in right if attribute not in MOVEMENTS}
    return Score(reading, right)


def aggregate(scores: Iterable[Score]) -> Adherence:
    """The sums of many scores."""
    scores = list(scores)
    tallies = {}
    for attribute in ATTRIBUTES:
        answers = [s.right[attribute] for s in scores if attribute in s.right]
        if answers:
            tallies[attribute] = Tally(sum(answers), len(answers))
    seen = [item for s in scores for item in s.reading.objects]
    return Adherence(
        tallies,
        Tally(sum(all(s.right.values()) for s in scores), len(scores)),
        _mean(item.colour_drift for item in seen),
        _mean(item.area_drift for item in seen),
    )


def _compare(
    reading: Reading, expected: Scene, vocabulary: Vocabulary
) -> Iterator[tuple[str, bool]]:
    seen = _matched(reading.objects, expected.objects)
    pairs = list(zip(seen, expected.objects, strict=False))
    complete = len(pairs) == len(expected.objects)
    asked = expected.objects[0]
    yield "shape", complete and all(item.shape == wanted.shape for item, wanted in pairs)
    yield "colour", complete and all(item.colour == wanted.colour for item, wanted in pairs)
    yield "motion", complete and seen[0].motion == asked.motion
    yield "background", reading.background == expected.background
    if vocabulary.relations:
        yield "objects", len(reading.objects) == len(expected.objects)
    if expected.relation:
        yield "relation", complete and relation(*seen) == expected.relation
    elif len(vocabulary.sizes) > 1 and asked.motion in SIZED_MOTIONS:
        yield "size", complete and seen[0].size == asked.size
    if len(vocabulary.cameras) > 1 and expected.background in TEXTURED_BACKGROUNDS:
        yield "camera", reading.camera == expected.camera


def _matched(seen: tuple[Sighting, ...], wanted: tuple[Object, ...]) -> tuple[Sighting, ...]:
    """The sightings in the order in which they suit the wanted objects best."""

    def likeness(order: tuple[Sighting, ...]) -> int:
        pairs = zip(order, wanted, strict=False)
        return sum(2 * (s.colour == w.colour) + (s.shape == w.shape) for s, w in pairs)

    return max(permutations(seen, min(len(seen), len(wanted))), key=likeness)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else 0.0
