"""What measures denoisers and whole clips on a GPU, on the CPU and on one in a GPU's place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutoscope
import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope.bench import gpu_engines, gpu_loop, gpu_parts
from mutoscope.bench.gpu_engines import Case, denoiser, found, timed
from mutoscope.bench.gpu_parts import Setting, SkippedError
from mutoscope.bench.gpu_placement import placement
from mutoscope.engine import Bundle
from mutoscope.engine.backends import tensorrt
from mutoscope.engine.profiles import LatentSize

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
SMALL = Case(EMBEDDED, LatentSize(2, 4, 6), batch=2)


def test_a_denoiser_on_the_cpu() -> None:
    figures = denoiser("onnxruntime", SMALL, beside_cpu=True)
    assert figures["latents"] == [2, 16, 2, 4, 6]
    assert (figures["error"], figures["finite"]) == (0, True)
    assert 0 < figures["run_ms"] < 60_000
    assert "memory_gb" not in figures


class Session:
    """Takes a millisecond of the device's time for a run."""

    def __init__(self) -> None:
        self.fed: list[Any] = []

    def run(self, feeds: Any) -> Any:
        self.fed.append(feeds)
        return {"sample": np.zeros(3)}


def test_times_are_the_devices(cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = Session()

    def record(self: CpuStream) -> Any:
        now = len(session.fed)
        return SimpleNamespace(
            now=now,
            synchronize=lambda: None,
            milliseconds_since=lambda earlier: float(now - earlier.now),
        )

    monkeypatch.setattr(CpuStream, "record", record, raising=False)
    feeds = {"x": np.ones(3, np.float32)}
    times, _ = timed(session, feeds, cpu_stream)  # type: ignore[arg-type]
    assert times["run_ms"] == 1
    assert times["handing_over_ms"] < 1000
    assert len(session.fed) == 1 + gpu_engines.REPETITIONS
    assert all(fed["x"] is session.fed[0]["x"] for fed in session.fed)  # uploaded once


def test_a_card_that_is_not_built_for_is_told(
    cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra")
    hopper = SimpleNamespace(
        name="H200", arch="sm_90", stream=lambda: SimpleNamespace(device=hopper)
    )
    monkeypatch.setattr(tensorrt, "open_device", lambda: hopper)
    what = found("tensorrt-rtx")
    assert what["runs"] is False
    assert what["reason"].startswith("unknown compute capability 'sm_90'")
    with pytest.raises(SkippedError, match="unknown compute capability 'sm_90'"):
        gpu_parts.embedded(Setting(tmp_path), backend="tensorrt-rtx")


def test_nodes_are_counted_by_who_ran_them() -> None:
    bundle = Bundle.open(EMBEDDED)
    path = bundle.file(bundle.graph("denoiser").file)
    nodes = placement(path, ["CPUExecutionProvider"], SMALL.feeds(bundle))
    assert list(nodes) == ["CPU"]
    assert nodes["CPU"]["Attention"] == 2 * bundle.manifest.denoiser.layers
    assert next(iter(nodes["CPU"].values())) == max(nodes["CPU"].values())


def test_a_missing_package_is_told() -> None:
    what = found("onnxruntime-cuda")
    assert what["runs"] is False
    assert "for CPUs; replace it with" in what["reason"]


def test_what_needs_another_part_says_so(tmp_path: Path) -> None:
    with pytest.raises(SkippedError, match="the part export has left no bundle"):
        gpu_parts.wan(Setting(tmp_path), backend="onnxruntime", index=0)


def test_clips_are_timed_and_compared(tmp_path: Path) -> None:
    setting = Setting(tmp_path, small=True)
    alone = gpu_parts.clip(setting, backend="onnxruntime")
    assert alone["compared"] == "no: diffusers-clip kept no frames"
    assert alone["step_ms"] == pytest.approx(alone["denoiser_ms"] + alone["rest_of_step_ms"])
    frames, _ = gpu_loop.measure("onnxruntime", gpu_loop.request(small=True))
    np.save(setting.reference, frames)
    assert gpu_parts.clip(setting, backend="onnxruntime")["psnr_db"] == "the same frames"
    np.save(setting.reference, frames ^ 1)
    assert gpu_parts.clip(setting, backend="onnxruntime")["psnr_db"] == 48.13


def test_the_request_is_the_embedded_models() -> None:
    with mutoscope.load(backend="null", preset="full") as pipe:
        defaults = pipe.bundle.manifest.defaults
    request = gpu_loop.request(small=False)
    assert (request["width"], request["steps"]) == (defaults.width, defaults.steps)
    assert request["latents"].shape[0] == 1
