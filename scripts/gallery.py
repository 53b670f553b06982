"""What the embedded model can do, and where it fails: pictures and a page, measured as it is made.

Example: python scripts/gallery.py docs/gallery
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import cycle
from os import PathLike
from pathlib import Path
from typing import Any

import av
import mutoscope
import numpy as np
from mutoscope.bench.adherence import (
    PLAIN,
    Object,
    Scene,
    Score,
    Vocabulary,
    describe,
    prompts,
    score,
    vocabulary_of,
)
from mutoscope.bench.adherence.vocabulary import (
    CAMERA_MOTIONS,
    PAIR_MOTIONS,
    TEXTURED_BACKGROUNDS,
)
from mutoscope.bench.tiles import grid
from mutoscope.engine.lora import Scale
from mutoscope.runtime.pipeline import Pipeline
from mutoscope.runtime.schedulers import SCHEDULERS
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

SEED = 7
COLUMNS = 4
QUALITY = 75
STILL_FILE = "still.png"
FLAGS = {"guidance_scale": "guidance"}
"""Of options, where it is not their name."""

TRIED, SHOWN = 32, 8
"""So many prompts are tried to find where it fails, and so many of the worst are shown."""

REQUESTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("upright", "Upright", "up", {"width": 64, "height": 96}),
    ("large", "Large", "grow", {"width": 128, "height": 128}),
    ("long", "Long", "right", {"frames": 33}),
    ("still", "One frame", "left", {"frames": 1}),
)
"""Other requests than the default: a picture's name and title, the motion, and the options."""

HEAD = """# Gallery

Made by `python scripts/gallery.py docs/gallery` with the embedded bundle `{name}`
(sha256 `{sha}`), {width}x{height}, {frames} frames, in its preset `{preset}` ({steps} steps,
guidance {guidance:g}) unless a command says otherwise. Nothing is picked by hand: prompts and seeds
stand in the script. Clips are numbered from left to right, row by row. "Wrong" is what the scorer
([bench/adherence](../../bench/adherence/__init__.py)) reads otherwise than the prompt asks; it
errs too.
"""


@dataclass(frozen=True)
class Entry:
    """One clip to make: a scene, the options of its request, perhaps a preset and a LoRA."""

    scene: Scene
    seed: int = SEED
    options: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    lora: str | None = None

    @property
    def command(self) -> str:
        """What makes the clip."""
        options = dict(self.options)
        if "image" in options:
            options["image"] = STILL_FILE
        if "width" in options:
            options["size"] = f"{options.pop('width')}x{options.pop('height')}"
        options |= {"preset": self.preset, "lora": self.lora}
        named = {FLAGS.get(name, name).replace("_", "-"): value for name, value in options.items()}
        flags = "".join(f" --{name} {value}" for name, value in named.items() if value is not None)
        return f'mutoscope generate "{describe(self.scene)}" --seed {self.seed}{flags}'


@dataclass(frozen=True)
class Made:
    """A clip, and what the scorer says of it."""

    entry: Entry
    frames: Frames
    score: Score

    @property
    def wrong(self) -> list[str]:
        """The attributes that are not as asked."""
        return [name for name, right in self.score.right.items() if not right]

    @property
    def share(self) -> float:
        """Of the answers, those that are right."""
        return 1 - len(self.wrong) / len(self.score.right)


@dataclass(frozen=True)
class Section:
    """A part of the page: a picture of clips of one size, and a line on each of them."""

    name: str
    title: str
    made: Sequence[Made]
    columns: int = COLUMNS
    note: str = ""


Make = Callable[[Entry], Made]


def main(folder: Path) -> None:
    """Make every clip, then write all pictures and the page."""
    with ExitStack() as stack:

        @cache
        def pipeline(preset: str | None, lora: str | None) -> Pipeline:
            loras: dict[str | PathLike[str], Scale] = {lora: 1} if lora else {}
            return stack.enter_context(mutoscope.load(preset=preset, loras=loras))

        bundle = pipeline(None, None).bundle
        vocabulary = vocabulary_of(pipeline(None, None).tokenizer.words) or PLAIN

        def make(entry: Entry) -> Made:
            sys.stderr.write(f"{entry.command}\n")
            pipe = pipeline(entry.preset, entry.lora)
            frames = pipe(describe(entry.scene), seed=entry.seed, **entry.options).frames
            return Made(entry, frames, score(frames, entry.scene, vocabulary))

        sections = [*shown(make, vocabulary), failures(make, vocabulary)]
    default = bundle.manifest.defaults
    head = HEAD.format(
        name=bundle.manifest.name, sha=bundle.sha256[:16], width=default.width,
        height=default.height, frames=default.frames, preset=bundle.preset, steps=default.steps,
        guidance=default.guidance_scale,
    )  # fmt: skip
    pictures = {section.name: picture(section, default.fps) for section in sections}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (folder / f"{name}.webp").write_bytes(data)
    (folder / "README.md").write_text("\n".join([head, *map(part, sections)]))


def shown(make: Make, vocabulary: Vocabulary) -> Iterator[Section]:
    """Every word of the vocabulary, other requests, few steps and other schedulers."""
    chosen = {
        "shapes": ("Every shape", shapes(vocabulary)),
        "motions": ("Every motion", motions(vocabulary)),
        "backgrounds": ("Every background", backgrounds(vocabulary)),
        "pairs": ("Two objects", pairs(vocabulary)),
        "camera": ("A moving camera", cameras(vocabulary)),
    }
    for name, (title, scenes) in chosen.items():
        if scenes:
            yield Section(name, title, [make(Entry(scene)) for scene in scenes])
    yield from requests(make, vocabulary)
    ways = [{"scheduler": name, "steps": steps} for name in SCHEDULERS for steps in (4, 30)]
    scene = Scene((Object("star", "yellow", "up"),), "navy")
    made = [make(Entry(scene, options=way, preset="full")) for way in ways]
    yield Section("steps", "The model alone: each scheduler with 4 and with 30 steps", made, 2)
    made = [make(Entry(scene, preset="full")) for scene in shapes(vocabulary)]
    yield Section("full", "Every shape, in thirty guided steps", made)
    made = [make(Entry(scene, lora="outlines")) for scene in shapes(vocabulary)]
    note = "The scorer knows filled shapes alone.\n"
    yield Section("outlines", "Every shape, as an outline", made, note=note)


def requests(make: Make, vocabulary: Vocabulary) -> Iterator[Section]:
    """Other sizes and lengths, with the vocabulary's last words; then a clip from a first frame."""
    words = zip(
        REQUESTS, vocabulary.shapes[::-1], vocabulary.colours, vocabulary.backgrounds[-4:],
        strict=False,
    )  # fmt: skip
    for (name, title, motion, options), shape, colour, place in words:
        made = make(Entry(Scene((Object(shape, colour, motion),), place), options=options))
        yield Section(name, title, [made], 1)
    entry = Entry(made.entry.scene, options={"image": made.frames[0]})
    note = f"The frame above, written with `-o {STILL_FILE}`, is where this clip begins.\n"
    yield Section("image", "From a first frame", [make(entry)], 1, note)


def failures(make: Make, vocabulary: Vocabulary) -> Section:
    """The clips with the fewest right answers."""
    scenes = [scene for _, scene in prompts(TRIED, vocabulary=vocabulary)]
    made = sorted((make(Entry(s, i)) for i, s in enumerate(scenes)), key=lambda item: item.share)
    flawless = sum(not item.wrong for item in made)
    note = (
        f"Of {TRIED} prompts, those of `mutoscope bench --quality --prompts {TRIED}`, "
        f"{flawless} clips show all that was asked. These are the {SHOWN} with the fewest right "
        "answers, the worst first.\n"
    )
    return Section("failures", "Where it fails", made[:SHOWN], note=note)


def shapes(vocabulary: Vocabulary) -> list[Scene]:
    """Each shape, the other words taking turns."""
    motions = [word for word in vocabulary.motions if word != "spin"]
    turns = zip(
        vocabulary.shapes,
        cycle(vocabulary.colours),
        cycle(motions),
        cycle(vocabulary.backgrounds),
        strict=False,
    )
    return [Scene((Object(s, colour, motion),), place) for s, colour, motion, place in turns]


def motions(vocabulary: Vocabulary) -> list[Scene]:
    """Each motion of one object."""
    return [Scene((Object("square", "blue", word),), "white") for word in vocabulary.motions]


def backgrounds(vocabulary: Vocabulary) -> list[Scene]:
    """One object before each background."""
    return [Scene((Object("star", "orange", "spin"),), word) for word in vocabulary.backgrounds]


def pairs(vocabulary: Vocabulary) -> list[Scene]:
    """Each relation of two objects, the first at rest and in motion."""
    shapes, places = cycle(vocabulary.shapes), cycle(vocabulary.backgrounds)
    second = Object("square", "cyan")
    return [
        Scene((Object(next(shapes), "red", motions[k]), second), next(places), relation)
        for k in (0, -1)
        for relation, motions in PAIR_MOTIONS.items()
        if relation in vocabulary.relations
    ]


def cameras(vocabulary: Vocabulary) -> list[Scene]:
    """Each movement of the camera."""
    places = cycle(TEXTURED_BACKGROUNDS)
    return [
        Scene((Object("balloon", "pink", CAMERA_MOTIONS[word][0]),), next(places), camera=word)
        for word in vocabulary.cameras
        if word != "static"
    ]


def part(section: Section) -> str:
    """A section of the page."""
    rows = [
        f"| {i} | `{item.entry.command}` | {', '.join(item.wrong) or '–'} |"
        for i, item in enumerate(section.made, 1)
    ]
    picture = f"![{section.title}]({section.name}.webp)\n"
    table = ["| | command | wrong |", "| --- | --- | --- |", *rows, ""]
    return "\n".join([f"## {section.title}\n", *filter(None, [section.note]), picture, *table])


def picture(section: Section, fps: float) -> bytes:
    """The clips side by side, as animated WebP, which is a tenth of the size of GIF here."""
    frames = grid([item.frames for item in section.made], section.columns)
    data = io.BytesIO()
    with av.open(data, "w", format="webp", options={"loop": "0"}) as file:
        stream = file.add_stream("libwebp_anim", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"quality": str(QUALITY), "compression_level": "6"}
        for frame in frames:
            shot = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            file.mux(stream.encode(shot))
        file.mux(stream.encode(None))
    return data.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
