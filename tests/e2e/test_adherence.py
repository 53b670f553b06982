"""The clip shows what the prompt says, as far as the embedded model can."""

from __future__ import annotations

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.adherence import (
    Adherence,
    Object,
    Scene,
    aggregate,
    describe,
    prompts,
    score,
    vocabulary_of,
)

pytestmark = pytest.mark.e2e
CLIPS = 24
FLOORS = {
    "colour": 0.95,
    "objects": 0.95,
    "background": 0.95,
    "motion": 0.9,
    "relation": 0.8,
    "size": 0.8,
    "camera": 0.6,
    "shape": 0.7,
}
"""Of these 24 clips the model reaches colour, objects and background 24, motion 23, shape 19
in four steps and 20 in thirty; relation 5 of 5, size 10 of 10, camera 6 of 9. Of guesses, one
in eight colours, eleven motions, eight backgrounds and twelve shapes is right."""


@pytest.fixture(scope="module", params=["fast", "full"])
def adherence(request: pytest.FixtureRequest) -> Adherence:
    with mutoscope.load(preset=request.param) as pipe:
        vocabulary = vocabulary_of(pipe.tokenizer.words)
        assert vocabulary is not None
        return aggregate(
            score(pipe(prompt, seed=seed).frames, scene, vocabulary)
            for seed, (prompt, scene) in enumerate(prompts(CLIPS, vocabulary=vocabulary))
        )


def test_in_four_steps_things_still_spin() -> None:
    """A distillation judged by single frames alone unlearns it."""
    with mutoscope.load() as pipe:
        vocabulary = vocabulary_of(pipe.tokenizer.words)
        assert vocabulary is not None
        for shape in ("heart", "boat", "triangle"):
            scene = Scene((Object(shape, "red", "spin"),))
            frames = pipe(describe(scene), seed=1).frames
            assert score(frames, scene, vocabulary).right["motion"]


@pytest.mark.parametrize("attribute", FLOORS)
def test_clips_show_what_was_asked(adherence: Adherence, attribute: str) -> None:
    tally = adherence.tallies[attribute]
    assert tally.asked > 0
    assert tally.fraction >= FLOORS[attribute]


def test_outlines_show_what_is_behind() -> None:
    """Of a square and of a circle less is coloured, but still a line around each."""
    shares = []
    with mutoscope.load() as pipe:
        for loras in ({}, {"outlines": 1.0}):
            pipe.set_loras(loras)
            for prompt in ("a large red circle on a white background", "a large blue square"):
                frames = pipe(prompt, seed=3).frames.astype(int)
                shares.append(np.mean(np.ptp(frames, axis=-1) > 100))
    for filled, outlined in zip(shares[:2], shares[2:], strict=True):
        assert 0.2 * filled < outlined < 0.8 * filled
