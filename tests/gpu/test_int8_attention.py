"""Attention in int8 as ONNX Runtime's CUDA provider runs it, on a real GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.gpu_engines import Case, found
from mutoscope.bench.quality.similarity import similarity
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends import onnxruntime_cuda
from mutoscope.engine.profiles import LatentSize
from mutoscope.kernels.device import Stream

pytestmark = pytest.mark.gpu

BACKEND = "onnxruntime-cuda"
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PROMPT = "a red circle moves left to right"


@pytest.fixture(scope="module")
def stream() -> Stream:
    what = found(BACKEND)
    if not what["runs"]:
        pytest.skip(what["reason"])
    return onnxruntime_cuda.open_stream()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_denoiser_is_within_one_percent_of_exact(stream: Stream, batch: int) -> None:
    bundle = Bundle.open(EMBEDDED)
    feeds = Case(EMBEDDED, LatentSize.default(bundle.manifest), batch).feeds(bundle)

    def run(*, in_int8: bool) -> list[Any]:
        options = EngineOptions(stream=stream, int8_attention=in_int8)
        with open_graph(bundle, "denoiser", backend=BACKEND, options=options) as session:
            assert session.kernels == (("Int8Attention",) if in_int8 else ())
            return [np.asarray(session.run(feeds)["sample"]) for _ in range(3)]

    (exact, *_), (first, *others) = run(in_int8=False), run(in_int8=True)
    assert 0 < np.linalg.norm(first - exact) < 1e-2 * np.linalg.norm(exact)
    assert all(again.tobytes() == first.tobytes() for again in others)


def test_a_clip_is_like_the_exact_one(stream: Stream) -> None:
    frames = []
    for in_int8 in (False, True):
        with mutoscope.load(preset="full", backend=BACKEND, int8_attention=in_int8) as pipe:
            clip = pipe(PROMPT, steps=4, seed=5)
            frames.append(clip.frames)
            assert clip.record.kernels == (["Int8Attention"] if in_int8 else [])
    assert similarity(frames[1], frames[0]).psnr >= 25  # what a quantized bundle's must have
