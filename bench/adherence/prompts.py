"""Prompts to measure a model's adherence with, and the scene each of them asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .scene import Object, Scene, describe, held_out
from .vocabulary import (
    CAMERA_MOTIONS,
    PAIR_MOTIONS,
    PLAIN,
    SIZED_MOTIONS,
    SPINLESS_SHAPES,
    TEXTURED_BACKGROUNDS,
    Vocabulary,
)

Rng = np.random.Generator

PAIRS = 0.3
"""The share of prompts with two objects, where the vocabulary has relations."""


def prompts(n: int = 48, seed: int = 0, vocabulary: Vocabulary = PLAIN) -> list[tuple[str, Scene]]:
    """`n` different prompts within a vocabulary, each with the scene it asks for.

    Held-out combinations of shape, colour and motion come first: of the plain vocabulary there are
    44, and in them every shape meets every colour but the circle green, whose held-out motion would
    be a spin. Backgrounds take turns. A vocabulary that has them gets sizes, moving cameras and
    second objects too. The same `n`, at most the number of combinations (352 plain ones), `seed`
    and vocabulary give the same list.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    items = [
        Object(shape, colour, motion)
        for shape in vocabulary.shapes
        for colour in vocabulary.colours
        for motion in vocabulary.motions
        if not (motion == "spin" and shape in SPINLESS_SHAPES)
    ]
    order = rng.permutation(len(items))
    ranked = sorted((items[i] for i in order), key=lambda item: not held_out(Scene((item,))))
    turns = rng.permutation(len(vocabulary.backgrounds))
    chosen = [
        _scene(rng, item, vocabulary.backgrounds[turns[i % len(turns)]], vocabulary)
        for i, item in enumerate(ranked[:n])
    ]
    return [(describe(scene), scene) for scene in chosen]


def _scene(rng: Rng, item: Object, background: str, vocabulary: Vocabulary) -> Scene:
    """The object before the background, with what else the vocabulary can ask for."""
    relations = [word for word in vocabulary.relations if item.motion in PAIR_MOTIONS[word]]
    if relations and rng.random() < PAIRS:
        colours = [word for word in vocabulary.colours if word != item.colour]
        second = Object(_pick(rng, vocabulary.shapes), _pick(rng, colours))
        return Scene((item, second), background, _pick(rng, relations))
    cameras = [word for word in vocabulary.cameras if item.motion in CAMERA_MOTIONS[word]]
    camera = _pick(rng, cameras) if background in TEXTURED_BACKGROUNDS else "static"
    if item.motion in SIZED_MOTIONS and not camera.startswith("zoom"):
        item = replace(item, size=_pick(rng, vocabulary.sizes))
    return Scene((item,), background, camera=camera)


def _pick(rng: Rng, words: list[str] | tuple[str, ...]) -> str:
    return words[rng.integers(len(words))]
