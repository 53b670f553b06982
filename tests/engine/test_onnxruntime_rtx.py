"""ONNX Runtime with TensorRT-RTX: what it is told, and all around it with the CPU's provider."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutoscope
import numpy as np
import onnxruntime
import pytest
from cpu_device import CpuArray, CpuStream
from gpu_graphs import open_on_the_cpu
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends import onnxruntime_cuda, onnxruntime_rtx
from mutoscope.engine.onnx_file import parse
from mutoscope.errors import BundleError, MissingExtraError, UserError

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
OPTIONS: dict[str, Any] = {"width": 48, "height": 32, "frames": 9, "steps": 2, "seed": 5}
PROMPT = "a red circle moves left to right"
PLUGIN = onnxruntime_rtx.PLUGIN
Compiled = list[dict[str, str]]


@pytest.fixture
def compiled(cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """The CPU in the GPU's place, and its provider in TensorRT-RTX's; what that would be told."""
    told: Compiled = []
    cpu_stream.calls.clear()
    monkeypatch.setattr(onnxruntime_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(onnxruntime_rtx, "RTX", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_rtx, "gpus", lambda: ["the GPU"])
    monkeypatch.setattr(onnxruntime_cuda, "open_device", lambda: cpu_stream.device)
    monkeypatch.setattr(
        onnxruntime_rtx, "on_gpu", lambda devices, options: lambda _: told.append(options)
    )
    return told


@pytest.fixture
def unregistered() -> Iterator[None]:
    onnxruntime_rtx._register.cache_clear()
    yield
    onnxruntime_rtx._register.cache_clear()


def feeds(bundle: Bundle, height: int, batch: int = 1) -> dict[str, Any]:
    random, text = np.random.default_rng(0), bundle.manifest.text
    tokens = (batch, text.max_tokens, text.embedding_dim)
    return {
        "hidden_states": random.normal(size=(batch, 16, 2, height, 6)).astype(np.float32),
        "timestep": np.full((batch, 2), 500, np.float32),
        "encoder_hidden_states": random.normal(size=tokens).astype(np.float32),
    }


def test_the_provider_is_told_stream_and_shapes(bundle: Bundle, cpu_stream: CpuStream) -> None:
    profile = {"batch": (1, 2, 2), "height": (4, 8, 16), "width": (6, 6, 12)}
    graph = bundle.graph("vae_decoder_next")
    assert onnxruntime_rtx.provider_options(graph, profile, cpu_stream, apart=True) == {
        "has_user_compute_stream": "1",
        "user_compute_stream": "7",
        "nv_use_external_data_initializer": "1",
        "nv_profile_min_shapes": "latents:1x4x1x4x6,cache.0:1x3x2x4x6,cache.1:1x3x2x4x6",
        "nv_profile_opt_shapes": "latents:2x4x1x8x6,cache.0:2x3x2x8x6,cache.1:2x3x2x8x6",
        "nv_profile_max_shapes": "latents:2x4x1x16x12,cache.0:2x3x2x16x12,cache.1:2x3x2x16x12",
    }


def test_it_is_the_only_provider() -> None:
    calls: list[Any] = []
    settings = SimpleNamespace(
        add_session_config_entry=lambda *entry: calls.append(entry),
        add_provider_for_devices=lambda *provider: calls.append(provider),
    )
    onnxruntime_rtx.on_gpu(("the GPU",), {"an": "option"})(settings)
    assert calls == [("session.disable_cpu_ep_fallback", "1"), (["the GPU"], {"an": "option"})]


def test_a_clip_is_the_cpus(
    compiled: Compiled, cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, of the same graphs."""
    open_on_the_cpu(monkeypatch, fused=False)
    with mutoscope.load() as plain, mutoscope.load(backend="onnxruntime-rtx") as pipe:
        clip = pipe(PROMPT, **OPTIONS, guidance_scale=3.0)
        wanted = plain(PROMPT, **OPTIONS, guidance_scale=3.0)
    np.testing.assert_array_equal(clip.frames, wanted.frames)
    assert len(compiled) == 4  # each graph once: text encoder, denoiser, both of the VAE
    assert "launch guided_step_float32_float32" in cpu_stream.calls


def test_another_size_is_compiled_anew(compiled: Compiled, cpu_stream: CpuStream) -> None:
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(stream=cpu_stream)
    with open_graph(bundle, "denoiser", backend="onnxruntime-rtx", options=options) as session:
        assert compiled == []
        for height, batch in ((4, 2), (4, 1), (6, 1), (6, 2)):
            sample = session.run(feeds(bundle, height, batch))["sample"]
            assert isinstance(sample, CpuArray)
            assert sample.shape == (batch, 16, 2, height, 6)
    bounds = [
        [told[f"nv_profile_{kind}_shapes"].split(",")[0] for kind in ("min", "opt", "max")]
        for told in compiled
    ]
    assert bounds == [
        ["hidden_states:1x16x2x4x6", "hidden_states:2x16x2x4x6", "hidden_states:2x16x2x4x6"],
        ["hidden_states:1x16x2x6x6", "hidden_states:1x16x2x6x6", "hidden_states:2x16x2x6x6"],
    ]
    assert {told["nv_use_external_data_initializer"] for told in compiled} == {"0"}


def test_graphs_are_left_to_tensorrt_as_onnx_has_them() -> None:
    bundle = Bundle.open(EMBEDDED)
    content = onnxruntime_cuda.content_for_gpu(bundle, "denoiser", EngineOptions(), fused=False)
    nodes = parse(content.model, EMBEDDED).graph.node
    assert {node.domain for node in nodes} == {""}
    for node in nodes:
        assert not any(a.name == "softmax_precision" for a in node.attribute)


@pytest.mark.usefixtures("compiled")
def test_a_graph_that_it_does_not_take_whole_is_refused(
    cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own word: here no provider takes any node but the CPU's."""

    def without_cpu(settings: Any) -> None:
        settings.log_severity_level = 4
        settings.add_session_config_entry(onnxruntime_rtx.WITHOUT_CPU, "1")

    monkeypatch.setattr(onnxruntime_rtx, "on_gpu", lambda devices, options: without_cpu)
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(stream=cpu_stream)
    with (
        open_graph(bundle, "denoiser", backend="onnxruntime-rtx", options=options) as session,
        pytest.raises(BundleError) as caught,
    ):
        session.run(feeds(bundle, 4))
    assert "fallback to CPU EP has been explicitly disabled" in str(caught.value)
    assert str(caught.value).endswith("; use --backend onnxruntime-cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("compiled")
def test_a_provider_that_was_left_out_is_told(
    cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_rtx, "RTX", "NvTensorRTRTXExecutionProvider")
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(stream=cpu_stream)
    with (
        open_graph(bundle, "denoiser", backend="onnxruntime-rtx", options=options) as session,
        pytest.raises(UserError, match="did not take TensorRT-RTX for denoiser"),
    ):
        session.run(feeds(bundle, 4))


@pytest.mark.usefixtures("unregistered")
def test_a_missing_plugin_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PLUGIN, None)
    with pytest.raises(MissingExtraError, match=r"mutoscope\[onnxruntime-rtx\]"):
        onnxruntime_rtx.open_stream()


@pytest.mark.usefixtures("unregistered")
def test_a_plugin_that_does_not_load_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = str(tmp_path / "libplugin.so")
    monkeypatch.setitem(sys.modules, PLUGIN, SimpleNamespace(get_library_path=lambda: library))
    with pytest.raises(UserError) as caught:
        onnxruntime_rtx.open_stream()
    assert str(caught.value).startswith(
        "ONNX Runtime cannot load its TensorRT-RTX plugin; install NVIDIA's driver, or use "
        "--backend onnxruntime ("
    )
    assert library in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unregistered")
def test_no_gpu_for_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Any] = []
    plugin = SimpleNamespace(get_library_path=lambda: "libplugin.so")
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *a: registered.append(a)
    )
    for _ in range(2):
        with pytest.raises(UserError, match="TensorRT-RTX runs on no GPU here.*onnxruntime-cuda"):
            onnxruntime_rtx.open_stream()
    assert registered == [("NvTensorRTRTXExecutionProvider", "libplugin.so")]
