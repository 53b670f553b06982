"""A scene: what a clip shows, or ought to show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import UserError, unknown
from .vocabulary import (
    CAMERA_MOTIONS,
    COLOURS,
    FULL,
    PAIR_MOTIONS,
    RELATIONS,
    SIZED_MOTIONS,
    SPINLESS_SHAPES,
    STILL,
    TEXTURED_BACKGROUNDS,
)

PHRASES = {
    "right": "moves left to right",
    "left": "moves right to left",
    "up": "moves up",
    "down": "moves down",
    "bounce": "bounces",
    "grow": "grows",
    "shrink": "shrinks",
    "spin": "spins",
    "orbit": "moves in a circle",
    "fall": "drops to the ground",
    STILL: "",
}
SETTINGS = {
    "gradient": "on a gradient background",
    "ground": "over the ground under a blue sky",
    "night": "at night under the stars",
    "sea": "over the sea",
}


@dataclass(frozen=True)
class Object:
    """One thing in a scene, by the words of the vocabulary.

    Raises:
        UserError: a word the world does not know.
    """

    shape: str
    colour: str
    motion: str = STILL
    size: str = "medium"

    def __post_init__(self) -> None:
        _check("shape", self.shape, FULL.shapes)
        _check("colour", self.colour, FULL.colours)
        _check("motion", self.motion, FULL.motions)
        _check("size", self.size, FULL.sizes)
        if self.size != "medium" and self.motion not in SIZED_MOTIONS:
            raise UserError(f"what moves like {self.motion!r} has no size word; make it medium")
        if self.motion == "spin" and self.shape in SPINLESS_SHAPES:
            raise UserError(f"a {self.shape} looks the same when it spins; give it another motion")


@dataclass(frozen=True)
class Scene:
    """One or two objects before a background; `relation` is where the first is to the second.

    Raises:
        UserError: a word the world does not know, or objects and relation that do not fit.
    """

    objects: tuple[Object, ...]
    background: str = "black"
    relation: str | None = None
    camera: str = "static"

    def __post_init__(self) -> None:
        _check("background", self.background, FULL.backgrounds)
        _check("camera", self.camera, FULL.cameras)
        if self.relation is not None:
            _check("relation", self.relation, RELATIONS)
        if len(self.objects) != (1 if self.relation is None else 2):
            raise UserError("a scene has one object, or two and a relation between them")
        if len({item.colour for item in self.objects}) < len(self.objects):
            raise UserError("two objects of one colour cannot be told apart; change one's colour")
        if self.relation and any(item.size != "medium" for item in self.objects):
            raise UserError("two objects are both of medium size; leave their sizes out")
        self._check_motions()

    def _check_motions(self) -> None:
        first, *others = (item.motion for item in self.objects)
        if self.relation and (first not in PAIR_MOTIONS[self.relation] or others != [STILL]):
            known = ", ".join(PAIR_MOTIONS[self.relation])
            raise UserError(
                f"of two objects {self.relation} each other the first can be {known}; "
                "the second is still"
            )
        if self.camera != "static" and self.background not in TEXTURED_BACKGROUNDS:
            known = ", ".join(TEXTURED_BACKGROUNDS)
            raise UserError(
                f"{self.background!r} does not show the camera move; before {known} it does"
            )
        if first not in CAMERA_MOTIONS[self.camera]:
            known = ", ".join(CAMERA_MOTIONS[self.camera])
            raise UserError(f"while the camera does {self.camera!r} an object can be {known}")


def held_out(scene: Scene) -> bool:
    """Whether the scene belongs to evaluation: an eighth of shape, colour, motion triples does."""
    return any(
        (
            3 * FULL.shapes.index(item.shape)
            + 5 * tuple(COLOURS).index(item.colour)
            + 7 * FULL.motions.index(item.motion)
        )
        % 8
        == 0
        for item in scene.objects
    )


def describe(scene: Scene) -> str:
    """The scene's plainest caption; a static camera and a medium size go without saying."""
    first, *others = scene.objects
    words = [_noun(first), PHRASES[first.motion]]
    for other in others:
        words += [scene.relation or "", _noun(other)]
    words.append(SETTINGS.get(scene.background, f"on a {scene.background} background"))
    text = " ".join(filter(None, words))
    if scene.camera == "static":
        return text
    verb, way = scene.camera.split()
    return f"{text}, the camera {verb}s {way}"


def _noun(item: Object) -> str:
    size = "" if item.size == "medium" else f"{item.size} "
    words = f"{size}{item.colour} {item.shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _check(kind: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise UserError(unknown(kind, word, known))
