"""Attention in int8 on a real GPU: ONNX Runtime's operator, and TensorRT-RTX's plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.gpu_engines import Case
from mutoscope.bench.quality.similarity import similarity
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends.tensorrt.int8_attention import FLAG
from mutoscope.engine.int8_attention import OPERATOR
from mutoscope.engine.open import INT8_ATTENTION
from mutoscope.engine.profiles import LatentSize
from mutoscope.kernels.device import Stream
from runnable import runnable

pytestmark = pytest.mark.gpu

KERNELS = {"onnxruntime-cuda": OPERATOR, "tensorrt-rtx": FLAG}
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PROMPT = "a red circle moves left to right"


@pytest.fixture(scope="module", params=INT8_ATTENTION)
def backend(request: pytest.FixtureRequest) -> str:
    return runnable(request.param)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_denoiser_is_within_one_percent_of_exact(
    backend: str, stream: Stream, batch: int
) -> None:
    bundle = Bundle.open(EMBEDDED)
    feeds = Case(EMBEDDED, LatentSize.default(bundle.manifest), batch).feeds(bundle)

    def run(*, in_int8: bool) -> list[Any]:
        options = EngineOptions(stream=stream, int8_attention=in_int8)
        with open_graph(bundle, "denoiser", backend=backend, options=options) as session:
            assert session.kernels == ((KERNELS[backend],) if in_int8 else ())
            return [np.asarray(session.run(feeds)["sample"]) for _ in range(3)]

    (exact, *_), (first, *others) = run(in_int8=False), run(in_int8=True)
    assert 0 < np.linalg.norm(first - exact) < 1e-2 * np.linalg.norm(exact)
    assert all(again.tobytes() == first.tobytes() for again in others)


def test_a_clip_is_like_the_exact_one(backend: str) -> None:
    frames = []
    for in_int8 in (False, True):
        with mutoscope.load(preset="full", backend=backend, int8_attention=in_int8) as pipe:
            clip = pipe(PROMPT, steps=4, seed=5)
            frames.append(clip.frames)
            assert clip.record.kernels == ([KERNELS[backend]] if in_int8 else [])
    assert similarity(frames[1], frames[0]).psnr >= 25  # what a quantized bundle's must have


def test_steps_that_are_recorded_give_the_same_bits(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mutoscope.load(preset="full", backend=backend, int8_attention=True) as pipe:
        steps = list(stream := pipe.stream(PROMPT, steps=6, seed=5, scheduler="euler"))
        if stream.record.not_recorded:
            pytest.skip(stream.record.not_recorded)
        assert stream.record.recorded_steps == [2, 3, 4, 5]
        monkeypatch.setattr(type(pipe.sessions("denoiser")), "recordable", False)
        plain = list(pipe.stream(PROMPT, steps=6, seed=5, scheduler="euler"))
    for step, wanted in zip(steps, plain, strict=True):
        assert step.latents.tobytes() == wanted.latents.tobytes()
