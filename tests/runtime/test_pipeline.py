"""The way of a request, on the null backend: what is called, in which order, with what result."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope import Output, UserError
from mutoscope.engine import Bundle
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.guidance import GuidedDenoiser
from mutoscope.runtime.pipeline import Pipeline
from mutoscope.runtime.stream import Step


@pytest.fixture
def pipe(bundle_folder: Path) -> Iterator[Pipeline]:
    with mutoscope.load(bundle_folder, backend="null") as opened:
        yield opened


def test_clip_in_memory(pipe: Pipeline) -> None:
    clip = pipe("a red circle", seed=7, steps=2, frames=9, width=48)
    assert clip.frames.shape == (9, 32, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.path is None
    assert clip.record.settings["seed"] == 7
    assert len(clip.record.step_seconds) == 2
    assert {"text", "open", "denoise", "vae", "total"} <= set(clip.record.seconds)
    assert clip.record.bundle["sha256"] == pipe.bundle.sha256


def test_engines_run_as_often_as_needed(pipe: Pipeline) -> None:
    pipe("a red circle", steps=3, frames=9)
    runs = {name: pipe.sessions(name).runs for name in pipe.bundle.manifest.graphs}
    # prompt and negative prompt; both predictions of a step in one batch; 3 latent frames
    assert runs == {
        "text_encoder": 2,
        "denoiser": 3,
        "vae_decoder_first": 1,
        "vae_decoder_next": 2,
    }


@pytest.mark.parametrize(("zero", "cache"), [(0, 0), (1, 0), (2, 0), (2, 9.0)])
def test_a_step_without_velocity_asks_no_denoiser(pipe: Pipeline, zero: int, cache: float) -> None:
    """And leaves the latents as they are."""
    stream = pipe.stream(
        "a red circle", guidance_method="cfg-zero", zero_init_steps=zero, steps=5, step_cache=cache
    )
    noise = stream.latents
    same = [np.array_equal(step.latents, noise) for step in stream]
    assert pipe.sessions("denoiser").runs == 5 - zero
    assert same[:zero] == [True] * zero
    assert stream.record.settings["zero_init_steps"] == zero


def test_engines_are_closed_where_they_are_needed_no_more(
    image_bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, list[str]]] = []
    frame = np.zeros((32, 32, 3), np.uint8)
    with mutoscope.load(image_bundle_folder, backend="null", keep_open=False) as pipe:
        open_session = pipe.sessions._opener.open_session

        def spy(bundle: Bundle, name: str, options: Any) -> Any:
            opened.append((name, list(pipe.sessions._opened)))
            return open_session(bundle, name, options)

        monkeypatch.setattr(pipe.sessions._opener, "open_session", spy)
        stream = pipe.stream("a red circle", image=frame, steps=3, frames=9)
        next(stream)
        stream.steer("a blue square")
        list(stream)
        assert list(pipe.sessions._opened) == ["denoiser"]
        stream.clip()
        assert opened == [
            ("text_encoder", []),
            ("vae_encoder_first", []),
            ("denoiser", []),
            ("text_encoder", ["denoiser"]),
            ("vae_decoder_first", []),
            ("vae_decoder_next", []),
        ]


def test_tiles_go_through_the_decoder_one_by_one(pipe: Pipeline) -> None:
    clip = pipe("a red circle", frames=9, width=96, height=32, vae_tile=64)
    assert clip.frames.shape == (9, 32, 96, 3)
    # 12 latents across in tiles of 8; one row of them
    assert pipe.sessions("vae_decoder_first").runs == 2
    assert pipe.sessions("vae_decoder_next").runs == 4
    assert clip.record.settings["vae_tile"] == 64


def test_a_frame_no_larger_than_a_tile_stays_whole(pipe: Pipeline) -> None:
    pipe("a red circle", frames=1, width=64, height=32, vae_tile=64)
    assert pipe.sessions("vae_decoder_first").runs == 1


def test_no_guidance_needs_no_negative_prompt(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, batches = pipe.sessions("denoiser"), []
    plain = denoiser._run
    monkeypatch.setattr(
        denoiser, "_run", lambda feeds: batches.append(len(feeds["timestep"])) or plain(feeds)
    )
    pipe("a red circle", steps=3, guidance_scale=1)
    assert pipe.sessions("text_encoder").runs == 1
    assert batches == [1, 1, 1]


def test_noise_is_the_seeds(pipe: Pipeline) -> None:
    stream = pipe.stream("a red circle", seed=11)
    np.testing.assert_array_equal(stream.latents, standard_normal(11, (1, 4, 2, 4, 4)))


def test_given_latents_are_used(pipe: Pipeline) -> None:
    latents = np.full((1, 4, 2, 4, 4), 0.25, np.float32)
    stream = pipe.stream("a red circle", latents=latents)
    np.testing.assert_array_equal(stream.latents, latents)
    list(stream)
    # the null denoiser predicts a velocity of zero, so nothing moves
    np.testing.assert_array_equal(stream.latents, latents)


def test_stream_can_be_stopped(pipe: Pipeline) -> None:
    stream = pipe.stream("a red circle", steps=5)
    for step in stream:
        assert step.steps == 5
        assert step.preview().shape == (2, 4, 4, 3)
        if step.index == 1:
            stream.stop()
    assert len(stream.record.step_seconds) == 2
    assert len(stream.clip().frames) == 5


def test_stream_can_be_steered(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    plain = GuidedDenoiser.__call__

    def spy(self: GuidedDenoiser[Any], latents: Any, timestep: Any) -> Any:
        seen.append(self.prompt.tobytes())
        return plain(self, latents, timestep)

    monkeypatch.setattr(GuidedDenoiser, "__call__", spy)
    monkeypatch.setattr(Pipeline, "_embed", lambda self, prompt, account: _embedding(prompt))
    stream = pipe.stream("a red circle", steps=4, guidance_scale=1)
    next(stream)
    next(stream)
    stream.steer("a blue square moves")
    assert [step.index for step in stream] == [2, 3]
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert stream.record.settings["steered"] == [{"step": 2, "prompt": "a blue square moves"}]


def _embedding(prompt: str) -> np.ndarray:
    return np.full((1, 8, 6), len(prompt), np.float32)


def test_on_step_sees_every_step(pipe: Pipeline) -> None:
    seen: list[Step] = []
    pipe("a red circle", steps=3, on_step=seen.append)
    assert [step.index for step in seen] == [0, 1, 2]


def test_cut_prompt_stands_in_the_record(pipe: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        clip = pipe("a red circle moves up a blue square moves")
    assert clip.record.warnings == ["prompt cut; ignored: square moves"]


def test_bad_output_is_refused_before_any_work(pipe: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="avi is not supported"):
        pipe("a red circle", output=tmp_path / "clip.avi")
    with pytest.raises(UserError, match="does not exist; make it first"):
        pipe("a red circle", output=tmp_path / "none" / "clip.mp4")
    (tmp_path / "taken.mp4.json").touch()
    with pytest.raises(
        UserError, match="taken.mp4.json exists; choose another name or pass --overwrite"
    ):
        pipe("a red circle", output=tmp_path / "taken.mp4")
    with pytest.raises(UserError, match="quality must be between 0 and 100, not 101"):
        pipe("a red circle", output=Output(tmp_path / "clip.mp4", quality=101))
    assert not pipe.sessions._opened


def test_close_closes_the_sessions(bundle: Bundle, pipe: Pipeline) -> None:
    pipe("a red circle")
    pipe.close()
    assert not pipe.sessions._opened


def test_load_refuses_another_precision(bundle_folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        mutoscope.load(bundle_folder, precision="fp16")
    assert str(caught.value) == (
        f"{bundle_folder} is fp32, not fp16; "
        "make one with: mutoscope export CHECKPOINT BUNDLE --precision fp16"
    )


def test_load_names_the_backends(bundle_folder: Path) -> None:
    with pytest.raises(UserError, match="unknown backend 'onnx'.*did you mean 'onnxruntime'"):
        mutoscope.load(bundle_folder, backend="onnx")


def test_unknown_option(pipe: Pipeline) -> None:
    with pytest.raises(UserError, match="unknown option 'step'; did you mean 'steps'?"):
        pipe("a red circle", step=3)


def test_saving_leaves_the_record_alone(pipe: Pipeline, tmp_path: Path) -> None:
    clip = pipe("a red circle", seed=1)
    before = clip.record.as_dict()
    clip.save(tmp_path / "a.mp4")
    clip.save(tmp_path / "b.webm")
    assert clip.record.as_dict() == before
    beside = json.loads((tmp_path / "b.webm.json").read_text())
    assert beside["output"]["codec"] == "vp9"
    assert beside["seconds"]["total"] == before["seconds"]["total"]


def test_clips_of_one_name_have_records_of_their_own(pipe: Pipeline, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.webm"):
        pipe("a red circle", output=tmp_path / name)
    for name in ("a.mp4", "a.webm"):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["output"]["path"] == str(tmp_path / name)


def test_no_record_of_the_clip_that_was_replaced(pipe: Pipeline, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        pipe("a red circle", output=tmp_path / name)
    pipe("a blue square", output=Output(tmp_path / "a.mp4", overwrite=True, metadata=False))
    names = sorted(path.name for path in tmp_path.glob("*.mp4*"))
    assert names == ["a.mp4", "b.mp4", "b.mp4.json"]


def test_record_that_cannot_be_is_refused_before_any_work(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4.json").mkdir()
    with pytest.raises(UserError, match="clip.mp4.json is a folder; choose another name"):
        pipe("a red circle", output=Output(tmp_path / "clip.mp4", overwrite=True))
    (tmp_path / "dangling.mp4.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="dangling.mp4.json exists"):
        pipe("a red circle", output=tmp_path / "dangling.mp4")
    assert not pipe.sessions._opened


def test_given_latents_stand_in_the_record(pipe: Pipeline) -> None:
    clip = pipe("a red circle", latents=np.zeros((1, 4, 2, 4, 4), np.float32), seed=3)
    assert clip.record.settings["seed"] is None
    assert clip.record.settings["latents_sha256"] == (
        "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560"
    )


def test_dithering_stands_in_the_record(pipe: Pipeline, tmp_path: Path) -> None:
    stream = pipe.stream("a red circle")
    list(stream)
    plain = stream.clip(tmp_path / "plain.mp4").record.output
    assert (plain["dither"], plain["frames"]) == ("none", "rgb24")
    clip = stream.clip(Output(tmp_path / "dithered.mp4", dither="bayer"))
    told = json.loads((tmp_path / "dithered.mp4.json").read_text())["output"]
    assert (told["dither"], told["frames"]) == ("bayer", "nv12")
    again = stream.clip().save(tmp_path / "again.mkv", dither="bayer")
    assert again.exists()
    assert clip.frames.shape == (5, 32, 32, 3)


def test_clips_of_one_stream_have_records_of_their_own(pipe: Pipeline, tmp_path: Path) -> None:
    stream = pipe.stream("a red circle", steps=5)
    next(stream)
    first = stream.clip(tmp_path / "one.mp4")
    list(stream)
    second = stream.clip(tmp_path / "two.mp4")
    assert first.record.output["path"].endswith("one.mp4")
    assert first.record.settings["stopped_after"] == 1
    assert "stopped_after" not in second.record.settings


def test_steering_nowhere_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(UserError, match="the prompt is empty"):
        pipe.stream("a red circle").steer("  ")


def test_missing_graph_is_told_before_any_work(pipe: Pipeline) -> None:
    del pipe.bundle.manifest.graphs["vae_decoder_next"]
    with pytest.raises(UserError, match="has no graph 'vae_decoder_next'"):
        pipe("a red circle")
    assert len(pipe("a red circle", frames=1).frames) == 1
