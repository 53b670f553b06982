"""A clip on TensorRT's fakes, with the kernels on this CPU, is ONNX Runtime's clip bit for bit.

ONNX Runtime computes behind the fakes too: what is compared is all that lies between the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from engine_checks import check_budgets, check_refit
from mutoscope.bench.quality.similarity import similarity
from mutoscope.engine import Bundle, EngineStore
from mutoscope.engine.backends.tensorrt.engines import describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import Built
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.runtime import vae
from mutoscope.runtime.output import Output
from mutoscope.runtime.pipeline import Pipeline

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
OPTIONS: dict[str, Any] = {"width": 48, "height": 32, "frames": 9, "steps": 3, "seed": 5}
PROMPT = "a red circle moves left to right"
SIZES = [LatentSize(3, 4, 6), LatentSize(3, 4, 4)]
"""Of the clip, and of a tile."""
FEW = 64
"""Bytes: timesteps and coefficients of a step."""


@pytest.fixture
def pipe(recorder: Any, onnx_model: Callable[[Bundle, str], Any]) -> Iterator[Pipeline]:
    bundle = Bundle.open(EMBEDDED)
    models = {name: onnx_model(bundle, name) for name in bundle.manifest.graphs}
    recorder.model = models.__getitem__
    for name in models:
        spec = describe(TENSORRT_RTX, bundle, name, SIZES, ["sm_89"])
        built = Built(name.encode(), "", {}, 0.0, 0.0, 0.0)
        EngineStore().get(spec, "mini", lambda built=built: built)
    with mutoscope.load(preset="full", backend="tensorrt-rtx") as opened:
        yield opened


@pytest.fixture
def plain() -> Iterator[Pipeline]:
    with mutoscope.load(preset="full") as opened:
        yield opened


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
@pytest.mark.parametrize("batched", [True, False])
def test_every_step_and_frame_is_the_same(
    pipe: Pipeline,
    plain: Pipeline,
    scheduler: str,
    batched: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mutoscope.runtime.pipeline.fits_batched", lambda *_: batched)
    options = {**OPTIONS, "scheduler": scheduler, "guidance_scale": 3.5}
    stream, other = pipe.stream(PROMPT, **options), plain.stream(PROMPT, **options)
    assert stream.latents.tobytes() == other.latents.tobytes()
    for step, wanted in zip(stream, other, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()
    np.testing.assert_array_equal(step.preview(), wanted.preview())
    np.testing.assert_array_equal(stream.clip().frames, other.clip().frames)


@pytest.mark.parametrize("records", [True, False])
def test_recorded_steps_are_the_same(
    pipe: Pipeline, plain: Pipeline, recorder: Any, records: bool
) -> None:
    recorder.records = records
    options = {**OPTIONS, "steps": 5, "scheduler": "euler"}
    stream, other = pipe.stream(PROMPT, **options), plain.stream(PROMPT, **options)
    for step, wanted in zip(stream, other, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()
    assert stream.record.recorded_steps == ([2, 3, 4] if records else [])
    why = "" if records else "the engine of denoiser cannot be recorded"
    assert stream.record.not_recorded == why
    assert (other.record.recorded_steps, other.record.not_recorded) == ([], "")
    np.testing.assert_array_equal(stream.clip().frames, other.clip().frames)


def test_foretold_steps_are_the_same(pipe: Pipeline, plain: Pipeline) -> None:
    options = {**OPTIONS, "steps": 6, "step_cache": 5.0}
    stream, other = pipe.stream(PROMPT, **options), plain.stream(PROMPT, **options)
    for step, wanted in zip(stream, other, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()
    assert stream.record.foretold_steps == other.record.foretold_steps == [3, 4]
    assert stream.record.not_recorded == "a step cache decides on the host"


def test_a_step_cache_fetches_its_distances_once_and_only_to_decide(
    pipe: Pipeline, recorder: Any
) -> None:
    """All three after a computed step, the latents' way alone after a foretold one."""
    stream = pipe.stream(PROMPT, **{**OPTIONS, "steps": 7, "step_cache": 5.0})
    fetched = []
    for _ in range(7):
        recorder.calls.clear()
        next(stream)
        fetched.append(sizes(recorder, "download"))
    assert stream.record.foretold_steps == [3, 4, 5]
    assert fetched == [[], [], [], [12], [4], [4], []]


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"guidance_method": "cfg-zero", "guidance_rescale": 0.7}, [3, 4]),
        ({"guidance_method": "apg", "apg_eta": 0.3, "apg_norm_threshold": 9}, [2, 3, 4]),
    ],
    ids=["cfg-zero", "apg"],
)
def test_every_method_of_guidance_is_the_same(
    pipe: Pipeline, plain: Pipeline, options: dict[str, Any], recorded: list[int]
) -> None:
    options = {**OPTIONS, **options, "steps": 5}
    stream, other = pipe.stream(PROMPT, **options), plain.stream(PROMPT, **options)
    for step, wanted in zip(stream, other, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()
    assert stream.record.recorded_steps == recorded


def test_the_text_encoder_may_stay_on_the_cpu(
    pipe: Pipeline, plain: Pipeline, recorder: Any
) -> None:
    with mutoscope.load(preset="full", backend="tensorrt-rtx", text_backend="onnxruntime") as mixed:
        clip = mixed(PROMPT, **OPTIONS)
        assert type(mixed.sessions("text_encoder")) is type(plain.sessions("text_encoder"))
        assert type(mixed.sessions("denoiser")) is type(pipe.sessions("denoiser"))
    assert (clip.record.backend, clip.record.text_backend) == ("tensorrt-rtx", "onnxruntime")
    np.testing.assert_array_equal(clip.frames, plain(PROMPT, **OPTIONS).frames)


def test_what_closed_engines_gave_stays(pipe: Pipeline, plain: Pipeline) -> None:
    with mutoscope.load(preset="full", backend="tensorrt-rtx", keep_open=False) as closing:
        clip = closing(PROMPT, **OPTIONS)
        assert list(closing.sessions._opened) == ["vae_decoder_next"]
    np.testing.assert_array_equal(clip.frames, plain(PROMPT, **OPTIONS).frames)


def test_loras_refit_the_engine(pipe: Pipeline, recorder: Any) -> None:
    """What lies in fp16 stays so: the clip is near, not the same."""
    bundle = Bundle.open(EMBEDDED)
    spec = describe(TENSORRT_RTX, bundle, "denoiser", SIZES, ["sm_89"], ["refit"])
    EngineStore().get(spec, "mini", lambda: Built(b"denoiser", "", {}, 0.0, 0.0, 0.0))
    recorder.calls.clear()
    plain = check_refit("tensorrt-rtx", OPTIONS, floor_db=45, apart_db=20)
    assert [call for call in recorder.calls if call.startswith("refit")] == [
        f"refit {8 * bundle.manifest.denoiser.layers}"
    ]
    np.testing.assert_array_equal(plain, pipe(PROMPT, **OPTIONS).frames)


def test_weights_are_streamed_within_a_budget(pipe: Pipeline, recorder: Any) -> None:
    bundle = Bundle.open(EMBEDDED)
    spec = describe(TENSORRT_RTX, bundle, "denoiser", SIZES, ["sm_89"], ["weight-streaming"])
    EngineStore().get(spec, "mini", lambda: Built(b"denoiser", "", {}, 0.0, 0.0, 0.0))
    check_budgets("tensorrt-rtx", recorder.stream, SIZES[0], most_error=0)


def test_a_weight_that_is_not_taken(pipe: Pipeline, recorder: Any) -> None:
    spec = describe(
        TENSORRT_RTX, Bundle.open(EMBEDDED), "denoiser", SIZES, ["sm_89"], ["refit"]
    )  # fmt: skip
    EngineStore().get(spec, "mini", lambda: Built(b"denoiser", "", {}, 0.0, 0.0, 0.0))
    recorder.takes_weights = False
    with (
        mutoscope.load(preset="fast", backend="tensorrt-rtx") as changed,
        pytest.raises(MutoscopeError, match="the engine does not take '.*' anew"),
    ):
        changed(PROMPT, **OPTIONS)


def test_loras_want_an_engine_of_their_own(pipe: Pipeline) -> None:
    told = "--profile WIDTHxHEIGHTxFRAMES --refit$"
    with (
        mutoscope.load(preset="fast", backend="tensorrt-rtx") as changed,
        pytest.raises(UserError, match=told),
    ):
        changed(PROMPT, **OPTIONS)


def test_tiles_are_the_same(pipe: Pipeline, plain: Pipeline) -> None:
    options = {**OPTIONS, "vae_tile": 32}
    clips = [pipeline(PROMPT, **options).frames for pipeline in (pipe, plain)]
    np.testing.assert_array_equal(*clips)
    assert (clips[0] != plain(PROMPT, **OPTIONS).frames).any()


def test_tiles_take_their_weights_up_once(pipe: Pipeline, recorder: Any) -> None:
    """One row of tiles and two columns, of 32 pixels each, for three latent frames."""
    stream = pipe.stream(PROMPT, **{**OPTIONS, "vae_tile": 32})
    list(stream)
    recorder.calls.clear()
    stream.clip()
    assert sizes(recorder, "upload") == [FEW, FEW, 128, 128, 128]


def test_nothing_crosses_to_the_host_but_the_frames(pipe: Pipeline, recorder: Any) -> None:
    stream = pipe.stream(PROMPT, **OPTIONS)
    next(stream)  # opens the engine
    recorder.calls.clear()
    next(stream)
    assert recorder.calls.count("synchronize") == 1
    assert all(size <= FEW for size in sizes(recorder, "upload"))
    assert sizes(recorder, "download") == []
    assert recorder.calls.count("launch guided_step_float32_float32") == 2  # run, and recorded
    recorder.calls.clear()
    next(stream)
    assert recorder.calls[-2:] == ["launch graph", "synchronize"]
    assert all(call.startswith("upload") for call in recorder.calls[:-2])
    assert all(size <= FEW for size in sizes(recorder, "upload"))
    assert stream.record.recorded_steps == [2]
    recorder.calls.clear()
    assert stream.clip().frames.shape == (9, 32, 48, 3)
    assert sizes(recorder, "upload") == [FEW, FEW]  # mean and standard deviation of 16 channels
    assert sizes(recorder, "download") == [frames * 32 * 48 * 3 for frames in (1, 4, 4)]


def test_the_vae_s_cache_is_two_sets_of_arrays(
    pipe: Pipeline, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run gave is what the next one takes, and that writes over what the one before took."""
    stream, random = recorder.stream, np.random.default_rng(0)
    latents = [stream.upload(random.normal(size=(1, 16, 1, 4, 6)).astype("f4")) for _ in range(6)]
    made: list[tuple[int, ...]] = []
    empty = stream.empty
    monkeypatch.setattr(stream, "empty", lambda *a: made.append(a[0]) or empty(*a))
    recorder.calls.clear()
    places, counts = [], []
    for _ in vae.decode(pipe.sessions, latents):
        places.append(dict(recorder.contexts[-1].addresses))
        counts.append(len(made))
    given = [[p[n] for n in sorted(p) if n.startswith("cache.")] for p in places]
    taken = [[p[n] for n in sorted(p) if n.startswith("new_cache.")] for p in places]
    assert len(taken[0]) > 10
    assert given[1:] == taken[:-1]
    assert taken[2:] == [taken[0], given[2], given[3], given[4]]
    assert np.diff(counts).tolist() == [1 + len(taken[0]), 1, 1, 1, 1]  # the frames alone, then
    assert not [call for call in recorder.calls if call.startswith(("upload", "download"))]


def test_a_file_gets_half_the_bytes_of_rgb(
    pipe: Pipeline, plain: Pipeline, recorder: Any, tmp_path: Path
) -> None:
    stream = pipe.stream(PROMPT, **OPTIONS)
    list(stream)
    recorder.calls.clear()
    clip = stream.clip(Output(tmp_path / "there.mp4", encoder="software"))
    assert clip.record.output["frames"] == "nv12"
    assert sizes(recorder, "download") == [frames * 32 * 48 * 3 // 2 for frames in (1, 4, 4)]
    here = plain(PROMPT, output=Output(tmp_path / "here.mp4", encoder="software"), **OPTIONS)
    assert here.record.output["frames"] == "rgb24"
    # a code of luma is 1.2 of RGB, one of chroma up to 2.1; then libx264 quantizes
    assert similarity(clip.frames, here.frames).psnr > 45


def test_noise_that_is_given_and_another_prompt(pipe: Pipeline, plain: Pipeline) -> None:
    latents = np.random.default_rng(0).normal(size=(1, 16, 3, 4, 6)).astype(np.float32)
    clips = []
    for pipeline in (pipe, plain):
        stream = pipeline.stream(PROMPT, **OPTIONS, latents=latents, guidance_scale=1)
        next(stream)
        stream.steer("a blue square moves up")
        list(stream)
        clips.append(stream.latents)
    assert clips[0].tobytes() == clips[1].tobytes()


def sizes(recorder: Any, kind: str) -> list[int]:
    return [int(call.split()[1]) for call in recorder.calls if call.startswith(kind)]
