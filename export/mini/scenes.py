"""Scenes drawn at random: what a model is trained on, and what it is kept from seeing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

CANDIDATES = 4
"""How many scenes are drawn for each that is shown, where some are to be shown oftener."""


def sample_scenes(rng: Rng, n: int, split: Split, vocabulary: Vocabulary = FULL) -> list[Scene]:
    """`n` scenes of the vocabulary: only held-out ones ("test"), none of them ("train"), or all.

    Three in ten have two objects, where the vocabulary has relations; one in four textured
    backgrounds has a moving camera; one background in five is black in any case.
    """
    wanted = {"train": (False,), "test": (True,), "all": (False, True)}[split]
    scenes = (scene for scene in _endless(rng, vocabulary) if held_out(scene) in wanted)
    return list(islice(scenes, n))


def emphasised(rng: Rng, n: int, split: Split, emphasis: Mapping[str, float]) -> list[Scene]:
    """As `sample_scenes`, but those with some words about as much oftener as `emphasis` says."""
    if not emphasis:
        return sample_scenes(rng, n, split)
    candidates = sample_scenes(rng, CANDIDATES * n, split)
    weights = np.array([weight(scene, emphasis) for scene in candidates])
    rows = rng.choice(len(candidates), n, replace=False, p=weights / weights.sum())
    return [candidates[row] for row in rows]


def weight(scene: Scene, emphasis: Mapping[str, float]) -> float:
    """How much oftener than others a scene is shown: as its hardest word says."""
    return max(emphasis.get(word, 1.0) for word in words(scene))


def words(scene: Scene) -> set[str]:
    """The vocabulary's words for all that a scene shows."""
    shown = {word for item in scene.objects for word in (item.shape, item.motion, item.size)}
    return {*shown, scene.camera, scene.background}


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
