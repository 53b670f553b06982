"""A caption says what its scene shows, in many ways and none of them wrong."""

from __future__ import annotations

import numpy as np
import pytest
from mutoscope.bench.adherence import Object, Scene, describe
from mutoscope.export.mini.captions import (
    ACTIONS,
    CAMERA_WORDS,
    COLOUR_WORDS,
    NOUNS,
    RELATION_WORDS,
    SIZE_WORDS,
    TRAVEL,
    caption,
)
from mutoscope.export.mini.scenes import sample_scenes


def said(scene: Scene, n: int = 3000) -> set[str]:
    rng = np.random.default_rng(0)
    return {caption(scene, rng) for _ in range(n)}


def test_without_a_generator_it_is_the_plainest() -> None:
    for scene in sample_scenes(np.random.default_rng(0), 50, "all"):
        assert caption(scene) == describe(scene)


def test_a_seed_is_a_caption() -> None:
    scene = Scene((Object("star", "green", "right"),), "white")
    first, again = (caption(scene, np.random.default_rng(5)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("scene", "sentences"),
    [
        (
            Scene((Object("circle", "red", "right"),), "black"),
            {
                "a red circle moves left to right",
                "a crimson ball moves to the right",
                "scarlet dot goes from left to right",
                "a red disc travels right on a dark background",
                "gliding left to right, a red circle",
            },
        ),
        (
            Scene((Object("star", "green", "down"),), "gray"),
            {"a green star falls on a gray background", "a green star sinking, grey background"},
        ),
        (
            Scene((Object("cross", "blue", "orbit"),), "navy"),
            {
                "a blue plus orbits, navy background",
                "on a dark blue background, a blue cross circles around",
                "an azure cross moves in a circle on a navy background",
            },
        ),
        (
            Scene((Object("square", "orange"), Object("tree", "cyan")), "white", "above"),
            {
                "an orange square above a cyan tree on a white background",
                "over a cyan tree, an orange box, white background",
                "a cyan tree below an orange square on a white background",
            },
        ),
    ],
)
def test_sentences(scene: Scene, sentences: set[str]) -> None:
    assert sentences - said(scene, 20_000) == set()


def words(text: str, known: dict[str, tuple[str, ...]]) -> set[str]:
    """The names of which a synonym is in the text."""
    spaced = f" {text.replace(',', '')} "
    return {name for name, forms in known.items() for form in forms if f" {form} " in spaced}


def test_a_caption_names_the_objects_and_no_others() -> None:
    rng = np.random.default_rng(2)
    colours = {
        name: COLOUR_WORDS.get(name, (name,)) for name in ("red", "orange", "yellow", "cyan")
    }
    shapes = {name: NOUNS.get(name, (name,)) for name in ("square", "star", "boat", "heart", "sun")}
    for scene in sample_scenes(rng, 400, "all"):
        text = caption(scene, rng)
        for known, named in (
            (colours, {item.colour for item in scene.objects}),
            (shapes, {item.shape for item in scene.objects}),
        ):
            assert words(text, known) == named & set(known), text


def test_a_caption_tells_size_relation_and_camera() -> None:
    rng = np.random.default_rng(3)
    for scene in sample_scenes(rng, 400, "all"):
        text = caption(scene, rng)
        size = scene.objects[0].size
        sizes = {"small": SIZE_WORDS["small"], "large": SIZE_WORDS["large"]}
        assert words(text, sizes) == {size} - {"medium"}, text
        assert any(phrase in text for phrase in CAMERA_WORDS.get(scene.camera, ("",))), text
        moved = {camera for camera, forms in CAMERA_WORDS.items() if any(f in text for f in forms)}
        assert moved == {scene.camera} - {"static"}, text
        if scene.relation:
            assert any(form in text for forms in RELATION_WORDS.values() for form in forms), text


def test_no_two_motions_share_a_phrase() -> None:
    phrases = [
        phrase.replace("{v}", verb)
        for forms in ACTIONS.values()
        for form, verbs in zip(forms, TRAVEL, strict=True)
        for phrase in set(form) - {""}
        for verb in (verbs if "{v}" in phrase else ("",))
    ]
    assert len(phrases) == len(set(phrases)) > 150


def test_captions_are_many_and_tidy() -> None:
    found = said(Scene((Object("circle", "red", "left", "large"),), "night", camera="pan left"))
    assert len(found) > 2000
    assert not [text for text in found if "  " in text or " ," in text or text != text.strip()]
