"""What is trained on and what is evaluated on never meet."""

from __future__ import annotations

from collections import Counter

import numpy as np
from mutoscope.bench.adherence import FULL, PLAIN, held_out
from mutoscope.bench.adherence.vocabulary import TEXTURED_BACKGROUNDS
from mutoscope.export.mini.scenes import emphasised, sample_scenes, words


def test_splits() -> None:
    rng = np.random.default_rng(0)
    assert not any(map(held_out, sample_scenes(rng, 500, "train")))
    assert all(map(held_out, sample_scenes(rng, 500, "test")))
    share = np.mean([held_out(scene) for scene in sample_scenes(rng, 2000, "all", PLAIN)])
    # 44 of 352 combinations; four standard deviations of 2000 draws.
    assert abs(share - 1 / 8) < 0.03


def test_a_seed_is_a_list() -> None:
    first, again, other = (
        sample_scenes(np.random.default_rng(seed), 30, "train") for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_emphasised_scenes_are_shown_oftener() -> None:
    """Still of one split; without words to stress, the same scenes as ever."""
    rng = np.random.default_rng(4)
    shown = [scene for _ in range(500) for scene in emphasised(rng, 2, "train", {"sun": 4.0})]
    assert not any(map(held_out, shown))
    suns = np.mean(["sun" in words(scene) for scene in shown])
    alike = np.mean(["sun" in words(scene) for scene in sample_scenes(rng, 2000, "train")])
    assert 1.5 * alike < suns < 4 * alike
    first, plain = (np.random.default_rng(5) for _ in range(2))
    assert emphasised(first, 30, "train", {}) == sample_scenes(plain, 30, "train")


def test_every_word_of_the_world_occurs() -> None:
    scenes = sample_scenes(np.random.default_rng(1), 2000, "train")
    items = [item for scene in scenes for item in scene.objects]
    assert {item.shape for item in items} == set(FULL.shapes)
    assert {item.colour for item in items} == set(FULL.colours)
    assert {item.motion for item in items} == set(FULL.motions)
    assert {item.size for item in items} == set(FULL.sizes)
    assert {scene.background for scene in scenes} == set(FULL.backgrounds)
    assert {scene.relation for scene in scenes} == {*FULL.relations, None}
    assert {scene.camera for scene in scenes} == set(FULL.cameras)


def test_the_plain_world_is_plain() -> None:
    for scene in sample_scenes(np.random.default_rng(2), 500, "all", PLAIN):
        (item,) = scene.objects
        assert item.shape in PLAIN.shapes
        assert item.motion in PLAIN.motions
        assert scene.background in PLAIN.backgrounds
        assert (item.size, scene.camera) == ("medium", "static")


def test_shares_are_as_stated() -> None:
    scenes = sample_scenes(np.random.default_rng(3), 4000, "all")
    pairs = np.mean([scene.relation is not None for scene in scenes])
    assert abs(pairs - 0.3) < 0.03
    black = Counter(scene.background for scene in scenes)["black"] / len(scenes)
    assert abs(black - (0.2 + 0.8 / 8)) < 0.03
    textured = [
        scene
        for scene in scenes
        if scene.background in TEXTURED_BACKGROUNDS and scene.relation is None
    ]
    moving = np.mean([scene.camera != "static" for scene in textured])
    assert abs(moving - 0.25) < 0.07
