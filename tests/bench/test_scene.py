"""Scenes: what can be asked for, how it is said, and what is kept for evaluation."""

from __future__ import annotations

import pytest
from mutoscope.bench.adherence import PLAIN, Object, Scene, describe, held_out
from mutoscope.errors import UserError

RED = Object("circle", "red", "right")
BLUE = Object("square", "blue")


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (Scene((RED,)), "a red circle moves left to right on a black background"),
        (
            Scene((Object("sun", "orange", "fall", "large"),), "ground"),
            "a large orange sun drops to the ground over the ground under a blue sky",
        ),
        (
            Scene((Object("star", "cyan", "spin"), BLUE), "gradient", "left of"),
            "a cyan star spins left of a blue square on a gradient background",
        ),
        (
            Scene((Object("tree", "orange"),), "night", camera="zoom in"),
            "an orange tree at night under the stars, the camera zooms in",
        ),
    ],
)
def test_describe(scene: Scene, words: str) -> None:
    assert describe(scene) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sqare", "red"), "unknown shape 'sqare'; did you mean 'square'?"),
        (("circle", "mauve"), "unknown colour 'mauve'"),
        (("circle", "red", "jump"), "unknown motion 'jump'"),
        (("circle", "red", "up", "huge"), "unknown size 'huge'"),
        (("sun", "red", "spin"), "a sun looks the same when it spins; give it another motion"),
        (
            ("star", "red", "grow", "large"),
            "what moves like 'grow' has no size word; make it medium",
        ),
    ],
)
def test_objects_the_world_does_not_know(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as error:
        Object(*words)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((RED,), "blck"), "unknown background 'blck'; did you mean 'black'?"),
        (((RED,), "black", None, "tilt"), "unknown camera 'tilt'"),
        (((RED, BLUE), "black", "beside"), "unknown relation 'beside'"),
        (((RED, BLUE),), "a scene has one object, or two and a relation between them"),
        (((RED,), "black", "above"), "a scene has one object, or two and a relation between them"),
        (
            ((BLUE, Object("star", "blue")), "black", "above"),
            "two objects of one colour cannot be told apart; change one's colour",
        ),
        (
            ((RED, BLUE), "black", "left of"),
            "of two objects left of each other the first can be still, spin, grow, shrink, up, ",
        ),
        (
            ((BLUE, RED), "black", "above"),
            "of two objects above each other the first can be still, spin, grow, shrink, right, ",
        ),
        (
            ((Object("star", "red", size="small"), BLUE), "black", "above"),
            "two objects are both of medium size; leave their sizes out",
        ),
        (
            ((BLUE,), "white", None, "pan left"),
            "'white' does not show the camera move; before ground, night, sea it does",
        ),
        (
            ((RED,), "sea", None, "zoom in"),
            "while the camera does 'zoom in' an object can be still, spin",
        ),
    ],
)
def test_scenes_that_cannot_be(parts: tuple[object, ...], message: str) -> None:
    with pytest.raises(UserError) as error:
        Scene(*parts)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


def test_an_eighth_of_the_triples_is_held_out() -> None:
    scenes = [
        Scene((Object(shape, colour, motion),))
        for shape in PLAIN.shapes
        for colour in PLAIN.colours
        for motion in PLAIN.motions
        if (shape, motion) != ("circle", "spin")
    ]
    assert len(scenes) == 352
    assert sum(map(held_out, scenes)) == 44
    assert held_out(Scene((Object("circle", "red", "right"),)))
    assert not held_out(Scene((Object("circle", "red", "left"),)))


def test_one_held_out_object_holds_out_the_scene() -> None:
    first, kept, free = Object("star", "red"), Object("square", "green"), Object("square", "blue")
    assert [held_out(Scene((item,))) for item in (first, kept, free)] == [False, True, False]
    assert held_out(Scene((first, kept), "black", "above"))
    assert not held_out(Scene((first, free), "black", "above"))
