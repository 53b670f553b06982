"""Captions: the many ways to say what a scene shows.

A small grammar with synonyms. The parts of a sentence take different places: "on a gray
background, a red ball is moving right" and "moving right, a red ball, gray background".
"""

from __future__ import annotations

import numpy as np

from ...bench.adherence.scene import Object, Scene, describe
from ...bench.adherence.vocabulary import INVERSE_RELATIONS, PLAIN_BACKGROUNDS, STILL

Rng = np.random.Generator
Words = tuple[str, ...]

NOUNS: dict[str, Words] = {
    "circle": ("circle", "circle", "ball", "disc", "dot"),
    "square": ("square", "square", "box", "block"),
    "cross": ("cross", "cross", "plus sign", "plus"),
    "boat": ("boat", "boat", "sailing boat", "ship"),
    "car": ("car", "car", "automobile"),
    "tree": ("tree", "tree", "fir tree", "pine tree"),
    "balloon": ("balloon", "balloon", "hot-air balloon"),
}
COLOUR_WORDS: dict[str, Words] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "turquoise", "aqua"),
    "blue": ("blue", "blue", "azure"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
}
SIZE_WORDS: dict[str, Words] = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("",),
    "large": ("large", "big", "huge"),
}
TRAVEL: tuple[Words, Words] = (
    ("moves", "slides", "travels", "glides", "goes"),
    ("moving", "sliding", "travelling", "gliding", "going"),
)
"""What "{v}" stands for: in a sentence, and as a participle."""

RIGHT = (
    "left to right",
    "from left to right",
    "right",
    "to the right",
    "from the left to the right",
)
LEFT = ("right to left", "from right to left", "left", "to the left", "from the right to the left")
UP = ("up", "upward", "upwards", "bottom to top", "from bottom to top")
DOWN = ("down", "downward", "downwards", "top to bottom", "from top to bottom")
ROUND = ("{v} in a circle", "{v} around in a circle")


def _ways(ways: Words) -> Words:
    return tuple(f"{{v}} {way}" for way in ways)


ACTIONS: dict[str, tuple[Words, Words]] = {
    "right": (_ways(RIGHT), _ways(RIGHT)),
    "left": (_ways(LEFT), _ways(LEFT)),
    "up": ((*_ways(UP), "rises"), (*_ways(UP), "rising")),
    "down": ((*_ways(DOWN), "falls"), (*_ways(DOWN), "sinking")),
    "bounce": (("bounces", "bounces up and down", "is bouncing"), ("bouncing",)),
    "grow": (
        ("grows", "gets bigger", "becomes larger", "expands", "grows bigger"),
        ("growing", "getting bigger", "expanding"),
    ),
    "shrink": (
        ("shrinks", "gets smaller", "becomes smaller", "contracts"),
        ("shrinking", "getting smaller", "contracting"),
    ),
    "spin": (
        ("spins", "rotates", "turns around", "is spinning"),
        ("spinning", "spinning in place", "rotating"),
    ),
    "orbit": ((*ROUND, "orbits", "circles around"), (*ROUND, "orbiting", "circling around")),
    "fall": (
        ("drops to the ground", "falls to the ground", "drops", "falls under gravity"),
        ("dropping to the ground", "falling to the ground", "dropping"),
    ),
    STILL: (("", "", "", "stays still", "does not move"), ("", "", "resting", "standing still")),
}
"""What an object does: in a sentence, and as a participle."""

BACKDROPS: dict[str, Words] = {
    "black": ("black", "dark"),
    "gray": ("gray", "grey"),
    "white": ("white",),
    "navy": ("navy", "dark blue"),
}
PLACES: dict[str, Words] = {
    "gradient": ("on a gradient background", "on a gradient", "in front of a gradient"),
    "ground": (
        "over the ground under a blue sky",
        "under a blue sky",
        "over the ground",
        "outdoors",
    ),
    "night": ("at night under the stars", "at night", "under the stars", "in the night sky"),
    "sea": ("over the sea", "at sea", "over the ocean", "above the waves"),
}
RELATION_WORDS: dict[str, Words] = {
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
}
CAMERA_WORDS: dict[str, Words] = {
    "pan left": ("the camera pans left", "the camera moves left", "camera panning to the left"),
    "pan right": ("the camera pans right", "the camera moves right", "camera panning to the right"),
    "zoom in": ("the camera zooms in", "the camera moves closer", "zooming in"),
    "zoom out": ("the camera zooms out", "the camera moves away", "zooming out"),
}


def caption(scene: Scene, rng: Rng | None = None) -> str:
    """Say what the scene shows: in words drawn from `rng`, or the plainest without one."""
    if rng is None:
        return describe(scene)
    text = _sentence(scene, rng)
    if scene.background != "black" or rng.random() < 0.3:
        text = _placed(text, scene.background, rng)
    if scene.camera != "static":
        words = _pick(CAMERA_WORDS[scene.camera], rng)
        text = f"{text}, {words}" if rng.random() < 0.75 else f"{words}, {text}"
    return text


def sequel(scene: Scene, rng: Rng) -> str:
    """Say what happens to an object that can be seen already: "it moves right"."""
    text = _join("it", _action(scene.objects[0], rng, finite=True) or "stays still")
    if scene.camera == "static":
        return text
    return f"{text}, {_pick(CAMERA_WORDS[scene.camera], rng)}"


def _sentence(scene: Scene, rng: Rng) -> str:
    first, *others = scene.objects
    noun, chance = _noun(first, rng), rng.random()
    if chance < 0.65:
        head = _join(noun, _action(first, rng, finite=True))
    elif chance < 0.9 or first.motion == STILL:
        head = _join(noun, _action(first, rng, finite=False))
    else:
        head = f"{_action(first, rng, finite=False)}, {noun}"
    if not others:
        return head
    return _related(scene, head, rng)


def _related(scene: Scene, head: str, rng: Rng) -> str:
    """Two objects: the first named first, or last, or the second seen from the first."""
    first, second = scene.objects
    relation, other = scene.relation or "", _noun(second, rng)
    chance = rng.random()
    if chance < 0.65:
        return f"{head} {_pick(RELATION_WORDS[relation], rng)} {other}"
    if chance < 0.8:
        return f"{_pick(RELATION_WORDS[relation], rng)} {other}, {head}"
    inverse = _pick(RELATION_WORDS[INVERSE_RELATIONS[relation]], rng)
    subject = _noun(first, rng)
    return _join(f"{other} {inverse} {subject}", _action(first, rng, finite=False))


def _action(item: Object, rng: Rng, *, finite: bool) -> str:
    form = 0 if finite else 1
    return _pick(ACTIONS[item.motion][form], rng).replace("{v}", _pick(TRAVEL[form], rng))


def _noun(item: Object, rng: Rng) -> str:
    """The object with its adjectives, and with an article more often than not."""
    words = _join(
        _pick(SIZE_WORDS[item.size], rng),
        _pick(COLOUR_WORDS.get(item.colour, (item.colour,)), rng),
        _pick(NOUNS.get(item.shape, (item.shape,)), rng),
    )
    chance = rng.random()
    if chance < 0.15:
        return words
    if chance < 0.3:
        return f"the {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _placed(text: str, background: str, rng: Rng) -> str:
    chance = rng.random()
    if background in PLAIN_BACKGROUNDS:
        words = f"{_pick(BACKDROPS[background], rng)} background"
        if chance < 0.15:
            return f"{text}, {words}"
        place = f"on a {words}"
    else:
        place = _pick(PLACES[background], rng)
    return f"{text} {place}" if chance < 0.8 else f"{place}, {text}"


def _join(*words: str) -> str:
    return " ".join(filter(None, words))


def _pick(words: Words, rng: Rng) -> str:
    return words[rng.integers(len(words))]
