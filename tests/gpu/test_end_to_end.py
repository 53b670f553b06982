"""What a clip takes beside its engines: what crosses to the host, the host's work, and gaps."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.bench.gpu_engines import Measured
from mutoscope.bench.gpu_loop import host_seconds, measure, outside_stages
from mutoscope.engine.profiles import LatentSize
from mutoscope.errors import UserError
from mutoscope.kernels.cuda_stream import CudaStream
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.output import Output
from mutoscope.runtime.pipeline import Pipeline, graphs_for

pytestmark = pytest.mark.gpu

PROMPT = "a red circle moves left to right"
OPTIONS: dict[str, Any] = {"steps": 12, "seed": 5, "scheduler": "euler"}
FEW = 64
"""Bytes: timesteps and coefficients of a step, or a number for each channel of the latents."""
HOST_STEP_SECONDS = 100e-6
OUTSIDE = 0.02
"""Of a clip's time."""
ENCODED: dict[str, Any] = {"width": 256, "height": 160, "frames": 17}
"""No smaller than NVENC takes."""
LONG: dict[str, Any] = {"width": 480, "height": 320, "frames": 33}
"""Large enough for the embedded model's engines to take most of the time."""


def build(pipe: Pipeline, *, width: int, height: int, frames: int) -> LatentSize:
    """Build the engines for a clip, where the backend builds any; its latents' size."""
    size = LatentSize((frames - 1) // 4 + 1, height // 8, width // 8)
    engines = Measured(pipe.sessions.backend, pipe.bundle, size, pipe.sessions.stream)
    for name in graphs_for(frames):
        engines.build(name)
    return size


@pytest.fixture
def crossed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What passes between host and device from now on, on any stream: the call, and bytes."""
    crossed: list[tuple[str, int]] = []

    def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(stream: CudaStream, array: Any, *rest: Any) -> Any:
            crossed.append((name, array.nbytes))
            return call(stream, array, *rest)

        return noted

    for name in ("upload", "download", "fetch"):
        monkeypatch.setattr(CudaStream, name, note(name, getattr(CudaStream, name)))
    return crossed


def test_nothing_crosses_to_the_host_but_the_frames(
    pipe: Pipeline, crossed: list[tuple[str, int]]
) -> None:
    stream = pipe.stream(PROMPT, **OPTIONS)
    next(stream)  # opens the engine
    crossed.clear()
    list(stream)
    assert {name for name, _ in crossed} <= {"upload"}
    assert all(size <= FEW for _, size in crossed)
    crossed.clear()
    frames = stream.clip().frames
    fetched = [size for name, size in crossed if name != "upload"]
    assert sum(fetched) == frames.nbytes
    assert all(size <= FEW for name, size in crossed if name == "upload")


def test_no_frame_crosses_where_the_card_encodes(
    pipe: Pipeline, crossed: list[tuple[str, int]], tmp_path: Path
) -> None:
    build(pipe, **ENCODED)
    stream = pipe.stream(PROMPT, steps=2, seed=5, **ENCODED)
    list(stream)
    crossed.clear()
    try:
        clip = stream.clip(Output(tmp_path / "clip.mp4", encoder="h264_nvenc"))
    except UserError as error:
        pytest.skip(str(error))
    assert clip.record.output["frames"] == "nv12 in GPU memory"
    assert {name for name, _ in crossed} <= {"upload"}
    assert len(clip.frames) == ENCODED["frames"]


def test_the_host_is_done_with_a_recorded_step_at_once(pipe: Pipeline) -> None:
    stream = pipe.stream(PROMPT, **OPTIONS)
    list(stream)
    if stream.record.not_recorded:
        pytest.skip(stream.record.not_recorded)
    assert stream.record.recorded_steps == list(range(2, OPTIONS["steps"]))
    recorded = host_seconds(pipe, PROMPT, OPTIONS)[2:]
    assert statistics.median(recorded) <= HOST_STEP_SECONDS


def test_a_clip_s_stages_are_the_whole_clip(pipe: Pipeline) -> None:
    pipe(PROMPT, **OPTIONS)
    records = [pipe(PROMPT, **OPTIONS).record for _ in range(5)]
    assert statistics.median(map(outside_stages, records)) <= OUTSIDE


def test_a_clip_takes_what_its_engines_take(pipe: Pipeline, backend: str) -> None:
    size = build(pipe, **LONG)
    channels = pipe.bundle.manifest.latents.channels
    latents = standard_normal(5, (1, channels, size.frames, size.height, size.width))
    request = {"prompt": PROMPT, "latents": latents, "scheduler": "euler", "steps": 20, **LONG}
    frames, figures = measure(backend, request)
    assert frames.shape == (LONG["frames"], LONG["height"], LONG["width"], 3)
    assert figures["outside_engines_share"] <= OUTSIDE, figures
