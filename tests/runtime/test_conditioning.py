"""A clip that begins with an image, on the null backend: what is given, and what is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope import UserError
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.arithmetic import HostArithmetic
from mutoscope.runtime.conditioning import Conditioning
from mutoscope.runtime.output import write_image
from mutoscope.runtime.pipeline import Pipeline

IMAGE = np.full((32, 32, 3), 200, np.uint8)
SHAPE = (1, 4, 2, 4, 4)


@pytest.fixture
def pipe(image_bundle_folder: Path) -> Iterator[Pipeline]:
    with mutoscope.load(image_bundle_folder, backend="null") as opened:
        yield opened


def test_what_is_given_stays_in_its_place() -> None:
    first = np.full((1, 4, 1, 4, 4), 7, np.float32)
    noise = standard_normal(3, SHAPE)
    held = Conditioning(by_frame=True, first=first).hold(noise, HostArithmetic())
    assert (held[:, :, 0] == 7).all()
    np.testing.assert_array_equal(held[:, :, 1:], noise[:, :, 1:])
    assert Conditioning(by_frame=True).hold(noise, HostArithmetic()) is noise


@pytest.mark.parametrize(
    ("conditioning", "wanted"),
    [
        (Conditioning(), [5, 5]),
        (Conditioning(by_frame=True), [[5, 5, 5]] * 2),
        (Conditioning(True, np.zeros((1, 4, 1, 4, 4), np.float32)), [[0, 5, 5]] * 2),
    ],
    ids=["one for all", "by frame", "given"],
)
def test_timesteps(conditioning: Conditioning, wanted: list[Any]) -> None:
    timesteps = conditioning.timesteps(np.float32(5), np.zeros((2, 4, 3, 4, 4), np.float32))
    assert timesteps.tolist() == wanted
    assert timesteps.dtype == np.float32


def test_the_first_frame_is_the_image_at_every_step(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The null encoder makes zeros of it, the denoiser here moves all that it may."""
    monkeypatch.setattr(
        pipe.sessions("denoiser"), "_run", lambda feeds: {"sample": feeds["hidden_states"] + 1}
    )
    stream = pipe.stream("a red circle", image=IMAGE, seed=3)
    assert not stream.latents[:, :, 0].any()
    np.testing.assert_array_equal(stream.latents[:, :, 1], standard_normal(3, SHAPE)[:, :, 1])
    for step in stream:
        assert not step.latents[:, :, 0].any()
        assert step.latents[:, :, 1].any()
        assert step.preview().shape == (2, 4, 4, 3)
    assert pipe.sessions("vae_encoder_first").runs == 1


def test_the_encoder_sees_the_image(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    session = pipe.sessions("vae_encoder_first")
    plain = session._run
    monkeypatch.setattr(session, "_run", lambda feeds: seen.append(feeds) or plain(feeds))
    pipe("a red circle", image=IMAGE, width=48, steps=1)
    (feeds,) = seen
    assert feeds["frames"].shape == (1, 3, 1, 32, 48)
    np.testing.assert_allclose(feeds["frames"], 200 / 127.5 - 1, rtol=1e-6)


def test_given_noise_goes_with_an_image(pipe: Pipeline) -> None:
    stream = pipe.stream("a red circle", image=IMAGE, latents=np.ones(SHAPE, np.float32))
    assert (stream.latents[:, :, 0] == 0).all()
    assert (stream.latents[:, :, 1] == 1).all()


def test_the_record_tells_of_the_image(pipe: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "first.png"
    write_image(path, IMAGE)
    clip = pipe("a red circle", image=path, output=tmp_path / "clip.mp4")
    assert json.loads((tmp_path / "clip.mp4.json").read_text())["settings"]["image"] == {
        "name": "first.png",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert "image" in clip.record.seconds
    without = pipe("a red circle").record
    assert "image" not in without.settings
    assert "image" not in without.seconds


def test_an_image_can_be_steered_away_from(pipe: Pipeline) -> None:
    stream = pipe.stream("a red circle", image=IMAGE)
    next(stream)
    stream.steer("a blue square")
    list(stream)
    assert len(stream.clip().frames) == 5


def test_one_frame(pipe: Pipeline) -> None:
    assert len(pipe("a red circle", image=IMAGE, frames=1).frames) == 1


def test_a_bundle_of_text_alone_says_which_ones_can(bundle_folder: Path) -> None:
    with (
        mutoscope.load(bundle_folder, backend="null") as pipe,
        pytest.raises(UserError) as caught,
    ):
        pipe("a red circle", image="nowhere.png")
    assert str(caught.value) == (
        "the bundle null makes clips from text alone; an image needs a bundle of an image-to-video "
        "checkpoint, such as Wan 2.2 TI2V-5B"
    )


def test_a_missing_encoder_is_told_before_any_work(pipe: Pipeline) -> None:
    del pipe.bundle.manifest.graphs["vae_encoder_first"]
    with pytest.raises(UserError, match="has no graph 'vae_encoder_first'"):
        pipe("a red circle", image=IMAGE)
    assert len(pipe("a red circle").frames) == 5
