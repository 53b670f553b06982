"""The scorer is right about clips whose content is known, and only about those."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from mutoscope.bench.adherence import (
    FULL,
    PLAIN,
    Adherence,
    Object,
    Reading,
    Scene,
    Score,
    Sighting,
    Tally,
    Vocabulary,
    aggregate,
    held_out,
    measure,
    prompts,
    score,
)
from mutoscope.bench.adherence.reading import relation
from mutoscope.bench.adherence.vocabulary import CAMERAS, COLOURS, MOTIONS, PLAIN_BACKGROUNDS
from mutoscope.errors import UserError
from mutoscope.export.mini.scenes import sample_scenes
from mutoscope.export.mini.world import render
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
Drawn = list[tuple[Scene, Clip]]


def drawn(n: int, vocabulary: Vocabulary, side: int) -> Drawn:
    rng = np.random.default_rng(7)
    scenes = sample_scenes(rng, n, "test", vocabulary)
    return [(scene, render(scene, rng, side, side, 17)) for scene in scenes]


@pytest.fixture(scope="module")
def plain() -> Drawn:
    return drawn(200, PLAIN, 64)


@pytest.fixture(scope="module")
def full() -> Drawn:
    return drawn(200, FULL, 96)


def adherence(clips: Iterable[tuple[Scene, Clip]], vocabulary: Vocabulary) -> Adherence:
    return aggregate(score(frames, scene, vocabulary) for scene, frames in clips)


def spoilt(clip: Clip, rng: np.random.Generator) -> Clip:
    """A clip blurred along both axes by a binomial of five taps, with noise of 8 levels."""
    soft = clip.astype(np.float32)
    for axis in (1, 2):
        for _ in range(2):
            soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    noisy = soft + rng.normal(0, 8, clip.shape)
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


def psnr(a: Clip, b: Clip) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_plain_clips_are_read(plain: Drawn) -> None:
    found = adherence(plain, PLAIN)
    assert set(found.tallies) == {"shape", "colour", "motion", "background"}
    for attribute, tally in found.tallies.items():
        assert tally.asked == 200
        assert tally.fraction >= 0.99, attribute


def test_clips_of_the_whole_world_are_read(full: Drawn) -> None:
    found = adherence(full, FULL)
    assert found.clips.asked == 200
    assert found.clips.fraction >= 0.97
    for attribute, tally in found.tallies.items():
        assert tally.asked >= 20
        assert tally.fraction >= 0.98, attribute
    assert found.colour_drift < 1.5
    assert found.area_drift < 0.02


@pytest.mark.parametrize(("world", "vocabulary"), [("plain", PLAIN), ("full", FULL)])
def test_soft_noisy_clips_are_still_read(
    world: str, vocabulary: Vocabulary, request: pytest.FixtureRequest
) -> None:
    rng = np.random.default_rng(1)
    sharp: Drawn = request.getfixturevalue(world)[:80]
    clips = [(scene, spoilt(clip, rng)) for scene, clip in sharp]
    quality = [psnr(a, b) for (_, a), (_, b) in zip(sharp, clips, strict=True)]
    assert 27 < np.median(quality) < 29
    for attribute, tally in adherence(clips, vocabulary).tallies.items():
        assert tally.fraction >= 0.9, attribute


def test_wrong_expectations_score_as_guesses_do(plain: Drawn) -> None:
    scenes = [scene for scene, _ in plain]
    mixed = [scenes[i] for i in np.random.default_rng(2).permutation(100)]
    found = adherence(zip(mixed, (clip for _, clip in plain), strict=False), PLAIN)
    chance = {"shape": 1 / 5, "colour": 1 / 8, "motion": 1 / 9, "background": 0.25}
    for attribute, share in chance.items():
        # Four standard deviations of 100 guesses at most.
        assert abs(found.tallies[attribute].fraction - share) < 0.17, attribute


@pytest.mark.parametrize("motion", [*MOTIONS, "still"])
def test_every_motion_is_told_from_the_others(motion: str) -> None:
    scene = Scene((Object("square", "yellow", motion),), "gray")
    for seed in range(3):
        assert measure(render(scene, seed, 64, 64, 17)).objects[0].motion == motion


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("background", ["ground", "night", "sea"])
def test_the_camera_is_seen(camera: str, background: str) -> None:
    scene = Scene((Object("heart", "red"),), background, camera=camera)
    seen = measure(render(scene, 5, 96, 96, 17))
    (item,) = seen.objects
    assert (seen.background, seen.camera) == (background, camera)
    assert (item.shape, item.motion, item.size) == ("heart", "still", "medium")


@pytest.mark.parametrize(
    ("size", "frames"), [((64, 96), 33), ((96, 64), 9), ((128, 128), 17), ((64, 64), 49)]
)
def test_any_form_and_length_is_read(size: tuple[int, int], frames: int) -> None:
    scene = Scene((Object("star", "green", "spin"), Object("boat", "red")), "sea", "right of")
    found = score(render(scene, 3, *size, frames), scene)
    assert found.right == dict.fromkeys(
        ("shape", "colour", "motion", "background", "objects", "relation", "camera"), True
    )


def test_a_single_frame_is_asked_for_no_movement() -> None:
    scene = Scene((Object("fish", "pink", "down", "small"),), "night")
    found = score(render(scene, 0, 96, 96, 1), scene)
    assert found.right == dict.fromkeys(("shape", "colour", "background", "objects", "size"), True)


def test_two_objects_are_matched_with_what_was_asked_for() -> None:
    asked = Scene((Object("star", "green"), Object("circle", "red")), "white", "above")
    swapped = Scene(asked.objects[::-1], "white", "above")
    frames = render(asked, 4, 96, 96, 5)
    assert all(score(frames, asked).right.values())
    wrong = [name for name, right in score(frames, swapped).right.items() if not right]
    assert wrong == ["relation"]


def test_a_missing_object_is_missed() -> None:
    asked = Scene((Object("star", "green"), Object("circle", "red")), "black", "above")
    alone = Scene(asked.objects[:1], "black")
    right = score(render(alone, 0, 96, 96, 9), asked).right
    assert right == {
        "shape": False,
        "colour": False,
        "motion": False,
        "background": True,
        "objects": False,
        "relation": False,
    }


@pytest.mark.parametrize("colour", COLOURS.values())
def test_an_empty_clip_shows_nothing(colour: tuple[int, int, int]) -> None:
    frames = np.full((17, 32, 48, 3), colour, np.uint8)
    assert measure(frames).objects == ()
    assert not score(frames, Scene((Object("star", "red", "spin"),)), PLAIN).right["shape"]


@pytest.mark.parametrize("form", [(1, 2, 2), (3, 7, 5), (20, 33, 64)])
def test_noise_is_read_without_failing(form: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (*form, 3), np.uint8)
    for vocabulary in (PLAIN, FULL):
        assert measure(frames, vocabulary).background in vocabulary.backgrounds


def test_only_words_of_the_vocabulary_are_read(full: Drawn) -> None:
    for _, frames in full[:20]:
        found = measure(frames, PLAIN)
        assert found.background in PLAIN_BACKGROUNDS
        assert len(found.objects) <= 1
        assert {item.shape for item in found.objects} <= set(PLAIN.shapes)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((17, 64, 64), np.uint8), "frames are uint8 (17, 64, 64)"),
        (np.zeros((17, 64, 64, 3), np.float32), "frames are float32 (17, 64, 64, 3)"),
    ],
)
def test_other_arrays_are_refused(frames: Clip, message: str) -> None:
    with pytest.raises(UserError) as error:
        measure(frames)
    assert str(error.value) == f"{message}; give uint8 (frames, height, width, 3)"


def disc(radius: Callable[[int], float], shade: Callable[[int], int]) -> Clip:
    """A red disc on black whose radius and red go by the frame, 16 of them."""
    grid = np.arange(64) - 31.5
    distance = np.hypot(grid, grid[:, None])
    frames = np.zeros((16, 64, 64, 3), np.uint8)
    for k, frame in enumerate(frames):
        frame[distance < radius(k)] = (shade(k), 30, 35)
    return frames


def test_drift_is_none_where_nothing_drifts() -> None:
    item = measure(disc(lambda k: 12, lambda k: 225), PLAIN).objects[0]
    assert item.colour_drift == pytest.approx(0, abs=1e-3)
    assert item.area_drift == pytest.approx(0, abs=1e-3)


def test_steady_growth_is_no_drift() -> None:
    item = measure(disc(lambda k: 8 + 0.8 * k, lambda k: 225), PLAIN).objects[0]
    # The edge of a disc without soft pixels is uneven by about a pixel in a hundred.
    assert item.area_drift < 0.03


def test_flicker_is_drift() -> None:
    item = measure(disc(lambda k: 12, lambda k: 205 + 40 * (k % 2)), PLAIN).objects[0]
    assert item.colour_drift == pytest.approx(20, abs=0.1)
    item = measure(disc(lambda k: 11 + 2 * (k % 2), lambda k: 225), PLAIN).objects[0]
    # Areas of 11² and 13² about 12²: a sixth either way.
    assert item.area_drift == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [(10, 30, "left of"), (50, 30, "right of"), (28, 5, "above"), (35, 60, "below")],
)
def test_relation(x: float, y: float, name: str) -> None:
    assert relation(sighting(x=x, y=y), sighting(x=30, y=32)) == name


def test_scores_are_summed() -> None:
    one = Reading((sighting(colour_drift=4, area_drift=0.1),), "black", "static")
    two = Reading((sighting(colour_drift=2, area_drift=0.3),), "black", "static")
    found = aggregate(
        [
            Score(one, {"shape": True, "colour": True}),
            Score(two, {"shape": False, "colour": True, "relation": False}),
        ]
    )
    assert found.tallies == {"shape": Tally(1, 2), "colour": Tally(2, 2), "relation": Tally(0, 1)}
    assert found.answers == Tally(3, 5)
    assert found.clips == Tally(1, 2)
    assert found.tallies["shape"].fraction == 0.5
    assert found.colour_drift == pytest.approx(3)
    assert found.area_drift == pytest.approx(0.2)


def test_no_scores_sum_to_nothing() -> None:
    found = aggregate([])
    assert (found.tallies, found.clips, found.colour_drift) == ({}, Tally(0, 0), 0)
    assert found.clips.fraction == 0


def test_prompts_are_spread_over_the_plain_vocabulary() -> None:
    chosen = prompts()
    assert len({prompt for prompt, _ in chosen}) == len(chosen) == 48
    items = [scene.objects[0] for _, scene in chosen]
    pairs = {(shape, colour) for shape in PLAIN.shapes for colour in PLAIN.colours}
    assert pairs - {(item.shape, item.colour) for item in items} == {("circle", "green")}
    assert {item.motion for item in items} == set(PLAIN.motions)
    backgrounds = [scene.background for _, scene in chosen]
    assert {word: backgrounds.count(word) for word in backgrounds} == dict.fromkeys(
        PLAIN.backgrounds, 12
    )
    assert sum(held_out(scene) for _, scene in chosen) == 44


def test_prompts_say_what_their_scenes_show() -> None:
    for prompt, scene in prompts(352, seed=3):
        item = scene.objects[0]
        assert f"{item.colour} {item.shape} " in prompt
        assert prompt.endswith(f" on a {scene.background} background")
    assert prompts(24) == prompts(24)
    assert prompts(24) != prompts(24, seed=1)


def test_prompts_of_the_full_vocabulary() -> None:
    """All words are asked for, in scenes that can be; combinations held out come first."""
    chosen = prompts(320, vocabulary=FULL)
    scenes = [scene for _, scene in chosen]
    assert len({prompt for prompt, _ in chosen}) == 320
    assert {item.shape for scene in scenes for item in scene.objects} == set(FULL.shapes)
    assert {scene.objects[0].motion for scene in scenes} == set(FULL.motions)
    assert {scene.objects[0].size for scene in scenes} == set(FULL.sizes)
    assert {scene.background for scene in scenes} == set(FULL.backgrounds)
    assert {scene.camera for scene in scenes} == set(FULL.cameras)
    assert {scene.relation for scene in scenes} == {*FULL.relations, None}
    assert 0.15 < sum(scene.relation is not None for scene in scenes) / 320 < 0.35
    assert all(held_out(scene) for scene in scenes[:100])
    assert prompts(24, vocabulary=FULL) == chosen[:24]


def sighting(
    x: float = 0, y: float = 0, colour_drift: float = 0, area_drift: float = 0
) -> Sighting:
    return Sighting("star", "red", "still", "medium", x, y, colour_drift, area_drift)
