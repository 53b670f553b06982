"""What measures denoisers and whole clips on a GPU, on the CPU and on one in a GPU's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutoscope
import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope.bench import gpu_engines, gpu_loop, gpu_parts, gpu_times, gpu_wan
from mutoscope.bench.gpu_engines import Case, denoiser, found, text_encoder, vae_decoder
from mutoscope.bench.gpu_placement import placement
from mutoscope.bench.gpu_setting import BACKENDS, Setting
from mutoscope.bench.gpu_times import timed
from mutoscope.bench.suite import SkippedError
from mutoscope.engine import Bundle, open_graph
from mutoscope.engine.backends import tensorrt
from mutoscope.engine.profiles import LatentSize
from mutoscope.errors import UserError
from mutoscope.runtime.pipeline import Pipeline

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
SMALL = Case(EMBEDDED, LatentSize(2, 4, 6), batch=2)


def test_a_denoiser_on_the_cpu() -> None:
    figures = denoiser("onnxruntime", SMALL, beside_cpu=True)
    assert figures["latents"] == [2, 16, 2, 4, 6]
    assert (figures["error"], figures["finite"]) == (0, True)
    assert 0 < figures["run_ms"] < 60_000
    assert figures["precision"] == Bundle.open(EMBEDDED).precision
    assert "memory_gb" not in figures


def test_a_text_encoder_on_the_cpu() -> None:
    figures = text_encoder("onnxruntime", SMALL)
    assert figures["tokens"] == Bundle.open(EMBEDDED).manifest.text.max_tokens
    assert figures["finite"] is True
    assert figures["run_ms"] > 0


def test_a_decoder_on_the_cpu() -> None:
    figures = vae_decoder("onnxruntime", SMALL)
    assert list(figures) == ["vae_decoder_first", "vae_decoder_next"]
    for call in figures.values():
        assert call["finite"] is True
        assert call["run_ms"] > 0


class Decoder:
    """Gives numbers that tell one run from the next."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, list[str], bool]] = []

    def __call__(self, name: str, feeds: Any, *, over: bool) -> Any:
        self.runs.append((name, sorted(feeds), over))
        return {"run_ms": 1.0}, {"frames": np.zeros(1), "new_cache.00": np.zeros(2)}


def test_a_later_call_takes_the_first_one_s_cache() -> None:
    decoder = Decoder()
    gpu_engines.decoder_calls(decoder, np.zeros((1, 16, 1, 2, 2), np.float32))
    assert decoder.runs == [
        ("vae_decoder_first", ["latents"], False),
        ("vae_decoder_next", ["cache.00", "latents"], True),
    ]


class Session:
    """Takes a millisecond of the device's time for a run."""

    def __init__(self) -> None:
        self.fed: list[Any] = []
        self.written: list[Any] = []

    def run(self, feeds: Any, into: Any = None) -> Any:
        self.fed.append(feeds)
        self.written.append(into)
        return {"sample": np.full(3, len(self.fed))}


@pytest.mark.parametrize("over", [False, True])
def test_times_are_the_devices(
    cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    session: Any = Session()

    def record(self: CpuStream) -> Any:
        now = len(session.fed)
        return SimpleNamespace(
            now=now,
            synchronize=lambda: None,
            milliseconds_since=lambda earlier: float(now - earlier.now),
        )

    def joules(run: Any) -> float:
        cpu_stream.calls.clear()
        run()
        assert cpu_stream.calls == ["synchronize"]
        return 4.5

    monkeypatch.setattr(CpuStream, "record", record, raising=False)
    monkeypatch.setattr(gpu_times, "joules_a_run", joules)
    feeds = {"x": np.ones(3, np.float32)}
    times, outputs = timed(session, feeds, cpu_stream, over=over)  # type: ignore[arg-type]
    assert (times["run_ms"], times["joules"]) == (1, 4.5)
    assert times["handing_over_ms"] < 1000
    assert len(session.fed) == 2 + gpu_times.REPETITIONS
    assert all(fed["x"] is session.fed[0]["x"] for fed in session.fed)  # uploaded once
    assert session.written == [None, *[outputs if over else None] * (1 + gpu_times.REPETITIONS)]


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
        gpu_wan.wan(Setting(tmp_path), backend="onnxruntime", index=0)


def test_models_of_wan_s_size_are_for_gpus(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.bundle.mkdir()
    for part in (gpu_wan.wan, gpu_wan.vae, gpu_wan.clip):
        with pytest.raises(SkippedError, match="models of this size are for GPUs"):
            part(setting, backend="onnxruntime", index=1)
    with pytest.raises(SkippedError, match="models of this size are for GPUs"):
        gpu_wan.text(setting, backend="onnxruntime")


def test_every_backend_has_every_part() -> None:
    of_wan = ("wan-small", "wan-large", "vae-small", "vae-large", "text", "wan-clip-small")
    for backend in BACKENDS:
        for part in ("embedded", "clip", *of_wan, "wan-clip-large"):
            assert f"{backend}-{part}" in gpu_parts.PARTS
    for backend in ("onnxruntime-cuda", "tensorrt-rtx"):
        for part in ("embedded", "wan-small", "wan-large"):
            assert f"{backend}-{part}-int8-attention" in gpu_parts.PARTS


def test_attention_in_int8_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a backend that has none, which says so."""
    with pytest.raises(UserError, match="'onnxruntime' has no attention in int8"):
        denoiser("onnxruntime", replace(SMALL, int8_attention=True))
    asked: list[bool] = []

    def open_exact(*arguments: Any, options: Any, **more: Any) -> Any:
        asked.append(options.int8_attention)
        return open_graph(*arguments, options=replace(options, int8_attention=False), **more)

    monkeypatch.setattr(gpu_engines, "open_graph", open_exact)
    denoiser("onnxruntime", replace(SMALL, int8_attention=True))
    denoiser("onnxruntime", SMALL)
    assert asked == [True, False]


def test_clips_are_timed_and_compared(tmp_path: Path) -> None:
    setting = Setting(tmp_path, small=True)
    alone = gpu_parts.clip(setting, backend="onnxruntime")
    assert alone["compared"] == "no: diffusers-clip kept no frames"
    assert alone["step_ms"] == pytest.approx(alone["denoiser_ms"] + alone["rest_of_step_ms"])
    assert alone["outside_engines_share"] == pytest.approx(
        1 - alone["engines_seconds"] / alone["seconds"], abs=1e-3
    )
    assert 0 <= alone["outside_stages_share"] < 0.5
    assert alone["host_step_ms"] > 0
    assert (alone["recorded_steps"], alone["timed_steps"]) == (0, gpu_loop.CLIPS * 2)
    file = alone["file"]
    assert (file["encoder"], file["frames"]) == ("libx264", "rgb24")
    assert 0 < file["encoder_seconds"] < file["seconds"]
    assert 0 <= file["encode_seconds"] < file["outside_stages_share"] * file["seconds"] + 1e-3
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


def test_waiting_is_none_of_the_host_s_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(gpu_loop.time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    device = SimpleNamespace(synchronize=lambda: pass_by(3.0))

    def steps() -> Any:
        for host in (0.25, 0.5):
            began = now[0]
            pass_by(host)
            device.synchronize()
            yield SimpleNamespace(seconds=now[0] - began)

    pipe: Any = SimpleNamespace(
        stream=lambda prompt, **options: steps(), sessions=SimpleNamespace(stream=device)
    )
    own = device.synchronize
    assert gpu_loop.host_seconds(pipe, "a circle", {}) == [0.25, 0.5]
    assert device.synchronize is own


def test_a_step_is_one_that_was_launched_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_loop.chosen([9.0, 8.0, 1.0, 2.0], [2, 3]) == [1.0, 2.0]
    assert gpu_loop.chosen([9.0, 8.0], []) == [9.0, 8.0]
    call = Pipeline.__call__

    def recorded(self: Pipeline, *arguments: Any, **options: Any) -> Any:
        clip = call(self, *arguments, **options)
        clip.record.step_seconds = [9.0, 8.0, 0.5, 0.25, 0.75]
        clip.record.recorded_steps = [2, 3, 4]
        return clip

    monkeypatch.setattr(Pipeline, "__call__", recorded)
    monkeypatch.setattr(gpu_loop, "host_seconds", lambda *_: [7.0, 7.0, 0.1, 0.3, 0.2])
    _, figures = gpu_loop.measure("onnxruntime", gpu_loop.request(small=True), clips=2)
    assert (figures["recorded_steps"], figures["timed_steps"]) == (3, 6)
    assert (figures["step_ms"], figures["host_step_ms"]) == (500, 200)


def test_what_text_denoiser_and_vae_do_not_account_for() -> None:
    seconds = {"text": 1.0, "open": 0.5, "denoise": 4.5, "vae": 3.0, "encode": 0.5, "total": 10.0}
    assert gpu_loop.outside_stages(SimpleNamespace(seconds=seconds)) == pytest.approx(0.15)  # type: ignore[arg-type]
