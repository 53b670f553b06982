"""The gallery is made by one command, for whatever part of the world the model knows."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.adherence import FULL, PLAIN, Vocabulary, vocabulary_of

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).parents[2] / "scripts" / "gallery.py"


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gallery", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("vocabulary", [PLAIN, FULL], ids=["plain", "full"])
def test_every_word_is_shown(gallery: ModuleType, vocabulary: Vocabulary) -> None:
    shapes = {scene.objects[0].shape for scene in gallery.shapes(vocabulary)}
    motions = {scene.objects[0].motion for scene in gallery.motions(vocabulary)}
    places = {scene.background for scene in gallery.backgrounds(vocabulary)}
    assert (shapes, motions, places) == tuple(
        map(set, (vocabulary.shapes, vocabulary.motions, vocabulary.backgrounds))
    )
    relations = [scene.relation for scene in gallery.pairs(vocabulary)]
    assert sorted(relations) == sorted(2 * vocabulary.relations)
    cameras = {scene.camera for scene in gallery.cameras(vocabulary)}
    assert cameras == {*vocabulary.cameras} - {"static"}


def test_a_picture_moves(gallery: ModuleType) -> None:
    """As many frames as the clips have, over and over."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 48, 3), np.uint8)
    made = [gallery.Made(None, frames, None) for frames in noise]
    data = gallery.picture(gallery.Section("noise", "Noise", made), 12.0)
    assert data.count(b"ANMF") == 5
    loops = data[data.index(b"ANIM") + 12 :][:2]
    assert int.from_bytes(loops, "little") == 0


def test_gallery(gallery: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture and each clip stands in the page."""
    monkeypatch.setattr(mutoscope, "load", partial(mutoscope.load, backend="null"))
    monkeypatch.setattr(gallery, "TRIED", 5)
    monkeypatch.setattr(gallery, "SHOWN", 3)
    gallery.main(folder / "gallery")
    page = (folder / "gallery" / "README.md").read_text()
    pictures = re.findall(r"!\[.+\]\((.+)\)", page)
    assert {p.name for p in (folder / "gallery").iterdir()} == {*pictures, "README.md"}
    assert {"shapes.webp", "steps.webp", "failures.webp"} <= set(pictures)
    assert all((folder / "gallery" / name).read_bytes()[8:12] == b"WEBP" for name in pictures)
    with mutoscope.load() as pipe:
        vocabulary = vocabulary_of(pipe.tokenizer.words)
        assert pipe.bundle.sha256[:16] in page
    assert vocabulary is not None
    commands = re.findall(r'\| `mutoscope generate "(.+)" --seed \d+(.*)` \|', page)
    words = len(vocabulary.shapes) + len(vocabulary.motions) + len(vocabulary.backgrounds)
    others = 2 * len(vocabulary.relations) + len(vocabulary.cameras) - 1
    again = 2 * len(vocabulary.shapes)
    assert len(commands) == words + others + 5 + 6 + 3 + again
    for way in (" --preset full", " --lora outlines"):
        assert sum(options == way for _, options in commands) == len(vocabulary.shapes)
    assert ("a red balloon moves up on a gradient background", " --size 64x96") in commands
    fish = "a green fish moves right to left over the sea"
    assert {(fish, " --frames 1"), (fish, " --image still.png")} <= set(commands)
    assert "Of 5 prompts, " in page
    assert page.count(" --scheduler unipc --steps 4 --preset full`") == 1
