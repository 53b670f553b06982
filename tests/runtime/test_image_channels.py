"""A model that takes an image as channels, on the null backend: what goes beside the noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope import UserError
from mutoscope.cli.build import _sizes
from mutoscope.engine.backends.null import NullSession
from mutoscope.engine.profiles import LatentSize
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.conditioning import beside
from mutoscope.runtime.pipeline import Pipeline

IMAGE = np.full((32, 32, 3), 255, np.uint8)
SHAPE = (1, 4, 2, 4, 4)


@pytest.fixture
def pipe(channel_bundle_folder: Path) -> Iterator[Pipeline]:
    with mutoscope.load(channel_bundle_folder, backend="null") as opened:
        yield opened


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What each graph was fed; encoders answer with their own numbers in the place of zeros."""
    feeds_of: dict[str, list[Any]] = {}
    plain = NullSession._run

    def spy(self: NullSession, feeds: Any) -> Any:
        feeds_of.setdefault(self.name, []).append(feeds)
        outputs = plain(self, feeds)
        if "encoder" in self.name and self.name != "text_encoder":
            outputs = {name: array + len(feeds_of[self.name]) for name, array in outputs.items()}
        return outputs

    monkeypatch.setattr(NullSession, "_run", spy)
    return feeds_of


def test_the_mask_and_the_image_lie_beside_the_noise(
    pipe: Pipeline, seen: dict[str, list[Any]]
) -> None:
    pipe("a red circle", image=IMAGE, seed=3, steps=2)
    for feeds in seen["denoiser"]:
        assert feeds["hidden_states"].shape == (2, 12, 2, 4, 4)
        for row in feeds["hidden_states"]:  # the conditional and the unconditional
            np.testing.assert_array_equal(row[:4], standard_normal(3, SHAPE)[0])
            assert (row[4:8, 0] == 1).all()
            assert not row[4:8, 1].any()
            assert (row[8:] == 1).all()  # what the null encoder made of it
        assert feeds["timestep"].shape == (2,)
        assert feeds["encoder_hidden_states_image"].shape == (2, 5, 7)
        assert (feeds["encoder_hidden_states_image"] == 1).all()


def test_the_encoders_see_the_image_once(pipe: Pipeline, seen: dict[str, list[Any]]) -> None:
    pipe("a red circle", image=IMAGE, frames=9, width=48)
    (first,), following = seen["vae_encoder_first"], seen["vae_encoder_next"]
    assert (first["frames"] == 1).all()
    assert [feeds["frames"].shape for feeds in following] == [(1, 3, 4, 32, 48)] * 2
    assert not any(feeds["frames"].any() for feeds in following)
    assert [float(feeds["cache.0"].mean()) for feeds in following] == [1, 1]  # of first, of next
    (embedded,) = seen["image_encoder"]
    assert embedded["image"].shape == (1, 3, 16, 16)
    assert (embedded["image"] == 1).all()


def test_one_frame_has_no_next(pipe: Pipeline, seen: dict[str, list[Any]]) -> None:
    del pipe.bundle.manifest.graphs["vae_encoder_next"]
    assert len(pipe("a red circle", image=IMAGE, frames=1).frames) == 1
    with pytest.raises(UserError, match="has no graph 'vae_encoder_next'"):
        pipe("a red circle", image=IMAGE)


def test_the_mask_has_a_channel_for_each_frame_of_a_latent_one() -> None:
    given = beside(np.full((1, 3, 4, 2, 5), 7, np.float32), 2)
    assert given.shape == (1, 5, 4, 2, 5)
    assert given[0, :, :, 0, 0].tolist() == [[1, 0, 0, 0]] * 2 + [[7, 7, 7, 7]] * 3


def test_without_an_image_it_makes_nothing(pipe: Pipeline) -> None:
    with pytest.raises(UserError) as caught:
        pipe("a red circle")
    assert str(caught.value) == (
        "the bundle null makes clips from an image: give one with --image FILE, or image=… in "
        "Python"
    )
    assert not pipe.sessions._opened


def test_a_missing_image_encoder_is_told_before_any_work(pipe: Pipeline) -> None:
    del pipe.bundle.manifest.graphs["image_encoder"]
    with pytest.raises(UserError, match="has no graph 'image_encoder'"):
        pipe("a red circle", image=IMAGE)


def test_engines_are_built_without_an_image(pipe: Pipeline) -> None:
    assert _sizes(pipe.bundle.manifest, ["48x32x9"]) == [LatentSize(3, 4, 6)]
    with pytest.raises(UserError, match="width must be a multiple of 16, 40 is not"):
        _sizes(pipe.bundle.manifest, ["40x32x9"])
