"""The clip shows what the prompt says, as far as the embedded model can."""

from __future__ import annotations

import mutoscope
import pytest
from mutoscope.bench.adherence import PLAIN, Adherence, aggregate, prompts, score

pytestmark = pytest.mark.e2e
FLOORS = {"colour": 0.95, "background": 0.95, "motion": 0.9, "shape": 0.5}
"""Over 48 prompts the model reaches 1.00, 1.00, .94 and .65 (`mutoscope bench --quality`); of
guesses, one in eight colours, four backgrounds, nine motions and five shapes is right."""


@pytest.fixture(scope="module")
def adherence() -> Adherence:
    with mutoscope.load() as pipe:
        return aggregate(
            score(pipe(prompt, seed=seed).frames, scene, PLAIN)
            for seed, (prompt, scene) in enumerate(prompts(24))
        )


@pytest.mark.parametrize("attribute", FLOORS)
def test_clips_show_what_was_asked(adherence: Adherence, attribute: str) -> None:
    tally = adherence.tallies[attribute]
    assert tally.asked == 24
    assert tally.fraction >= FLOORS[attribute]
