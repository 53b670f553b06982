"""Prompts to measure a model's adherence with, and the scene each of them asks for."""

from __future__ import annotations

import numpy as np

from .scene import Object, Scene, describe, held_out
from .vocabulary import PLAIN, SPINLESS_SHAPES


def prompts(n: int = 48, seed: int = 0) -> list[tuple[str, Scene]]:
    """`n` different prompts within the plain vocabulary, each with the scene it asks for.

    Held-out combinations come first: there are 44, and in them every shape meets every colour but
    the circle green, whose held-out motion would be a spin.
    Backgrounds take turns. The same `n`, at most 352, and `seed` give the same list.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    scenes = [
        Scene((Object(shape, colour, motion),))
        for shape in PLAIN.shapes
        for colour in PLAIN.colours
        for motion in PLAIN.motions
        if not (motion == "spin" and shape in SPINLESS_SHAPES)
    ]
    order = rng.permutation(len(scenes))
    ranked = sorted((scenes[i] for i in order), key=lambda scene: not held_out(scene))
    turns = rng.permutation(len(PLAIN.backgrounds))
    chosen = [
        Scene(scene.objects, PLAIN.backgrounds[turns[i % len(turns)]])
        for i, scene in enumerate(ranked[:n])
    ]
    return [(describe(scene), scene) for scene in chosen]
