"""Scenes drawn at random: what a model is trained on, and what it is kept from seeing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

from ...bench.adherence.scene import Object, Scene, held_out
from ...bench.adherence.vocabulary import (
    CAMERA_MOTIONS,
    FULL,
    PAIR_MOTIONS,
    SIZED_MOTIONS,
    SPINLESS_SHAPES,
    TEXTURED_BACKGROUNDS,
    Vocabulary,
)

Rng = np.random.Generator
Split = Literal["train", "test", "all"]

PAIRS = 0.3
MOVING_CAMERAS = 0.25
BLACK = 0.2


def sample_scenes(rng: Rng, n: int, split: Split, vocabulary: Vocabulary = FULL) -> list[Scene]:
    """`n` scenes of the vocabulary: only held-out ones ("test"), none of them ("train"), or all.

    Three in ten have two objects, where the vocabulary has relations; one in four textured
    backgrounds has a moving camera; one background in five is black in any case.
    """
    wanted = {"train": (False,), "test": (True,), "all": (False, True)}[split]
    scenes = (scene for scene in _endless(rng, vocabulary) if held_out(scene) in wanted)
    return list(islice(scenes, n))


def _endless(rng: Rng, vocabulary: Vocabulary) -> Iterator[Scene]:
    while True:
        background = "black" if rng.random() < BLACK else _pick(rng, vocabulary.backgrounds)
        if vocabulary.relations and rng.random() < PAIRS:
            yield _pair(rng, vocabulary, background)
        else:
            camera = _camera(rng, vocabulary, background)
            yield Scene((_single(rng, vocabulary, camera),), background, camera=camera)


def _pair(rng: Rng, vocabulary: Vocabulary, background: str) -> Scene:
    relation = _pick(rng, vocabulary.relations)
    colours = rng.permutation(len(vocabulary.colours))[:2]
    motion = _pick(rng, PAIR_MOTIONS[relation])
    first, second = (vocabulary.colours[i] for i in colours)
    return Scene(
        (
            Object(_shape(rng, vocabulary, motion), first, motion),
            Object(_pick(rng, vocabulary.shapes), second),
        ),
        background,
        relation,
    )


def _single(rng: Rng, vocabulary: Vocabulary, camera: str) -> Object:
    motion = _pick(rng, tuple(m for m in vocabulary.motions if m in CAMERA_MOTIONS[camera]))
    size = "medium"
    if motion in SIZED_MOTIONS and camera not in ("zoom in", "zoom out"):
        size = _pick(rng, vocabulary.sizes)
    colour = _pick(rng, vocabulary.colours)
    return Object(_shape(rng, vocabulary, motion), colour, motion, size)


def _camera(rng: Rng, vocabulary: Vocabulary, background: str) -> str:
    moving = vocabulary.cameras[1:]
    if moving and background in TEXTURED_BACKGROUNDS and rng.random() < MOVING_CAMERAS:
        return _pick(rng, moving)
    return "static"


def _shape(rng: Rng, vocabulary: Vocabulary, motion: str) -> str:
    barred = SPINLESS_SHAPES if motion == "spin" else ()
    return _pick(rng, tuple(shape for shape in vocabulary.shapes if shape not in barred))


def _pick(rng: Rng, words: tuple[str, ...]) -> str:
    return words[rng.integers(len(words))]
