"""ONNX Runtime bound to device memory: here the CPU's provider, on the CPU in a GPU's place."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutoscope
import numpy as np
import onnxruntime
import pytest
from cpu_device import CpuArray, CpuStream
from fake_pycuda import FakePyCuda
from gpu_graphs import open_on_the_cpu
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends import onnxruntime_cuda
from mutoscope.engine.backends.onnxruntime import open_changed
from mutoscope.engine.backends.onnxruntime.placement import shape_nodes
from mutoscope.engine.onnx_file import parse
from mutoscope.errors import UserError
from mutoscope.kernels import devices, memory, pycuda_device, pycuda_stream

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
CPU = "CPUExecutionProvider"
OPTIONS: dict[str, Any] = {"width": 48, "height": 32, "frames": 5, "steps": 2, "seed": 5}
PROMPT = "a red circle moves left to right"


@pytest.fixture
def on_cpu(cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch) -> CpuStream:
    monkeypatch.setattr(onnxruntime_cuda, "CUDA", CPU)
    monkeypatch.setattr(onnxruntime_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(onnxruntime_cuda, "providers", lambda stream: [(CPU, {})])
    monkeypatch.setattr(onnxruntime_cuda, "open_device", lambda: cpu_stream.device)
    cpu_stream.calls.clear()
    return cpu_stream


def feeds() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "hidden_states": random.normal(size=(1, 16, 2, 4, 6)).astype(np.float32),
        "timestep": np.full((1, 2), 500, np.float32),
        "encoder_hidden_states": random.normal(size=(1, 512, 128)).astype(np.float32),
    }


def test_outputs_stay_on_the_device_and_go_in_again(on_cpu: CpuStream) -> None:
    bundle, given = Bundle.open(EMBEDDED), feeds()
    options = EngineOptions(stream=on_cpu)
    content = onnxruntime_cuda.content_for_gpu(bundle, "denoiser", options)
    with (
        open_changed(bundle, "denoiser", options, bundle.graph("denoiser"), content) as plain,
        open_graph(bundle, "denoiser", backend="onnxruntime-cuda", options=options) as session,
    ):
        first = session.run(given)["sample"]
        assert isinstance(first, CpuArray)
        wanted = plain.run(given)["sample"]
        assert np.asarray(first).tobytes() == np.asarray(wanted).tobytes()
        on_cpu.calls.clear()
        second = session.run({**given, "hidden_states": first})["sample"]
        assert on_cpu.calls == ["upload 8", "upload 262144"]
        wanted = plain.run({**given, "hidden_states": wanted})["sample"]
        assert np.asarray(second).tobytes() == np.asarray(wanted).tobytes()


def test_a_clip_is_the_cpus(on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, where the CPU opens graphs in the same form."""
    open_on_the_cpu(monkeypatch)
    with mutoscope.load() as plain, mutoscope.load(backend="onnxruntime-cuda") as pipe:
        np.testing.assert_array_equal(
            pipe(PROMPT, **OPTIONS).frames, plain(PROMPT, **OPTIONS).frames
        )
    assert "launch guided_step_float32_float32" in on_cpu.calls


def test_a_clip_in_pycuda_s_context_is_the_same(
    on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePyCuda(on_cpu._library, eager=True)
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(pycuda_device, "compile_source", lambda text, name, arch: name.encode())
    monkeypatch.setattr(memory, "call_driver", fake.call_driver)
    monkeypatch.setattr(pycuda_stream, "call_driver", fake.call_driver)
    with mutoscope.load(backend="onnxruntime-cuda") as pipe:
        wanted = pipe(PROMPT, **OPTIONS).frames
    monkeypatch.setattr(onnxruntime_cuda, "open_device", devices.open_device)
    monkeypatch.setattr(onnxruntime_cuda, "open_stream", lambda: devices.open_device().stream())
    with mutoscope.load(backend="onnxruntime-cuda") as pipe:
        np.testing.assert_array_equal(pipe(PROMPT, **OPTIONS).frames, wanted)
    assert "launch guided_step_float32_float32" in fake.calls
    assert not any(fake.stacks.values())
    assert fake.mistakes == []


def test_another_context_than_the_primary_is_refused(
    on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cudaSetDevice, which ONNX Runtime calls, leaves every other context."""
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None)
    device = SimpleNamespace(primary=False)
    monkeypatch.setattr(onnxruntime_cuda, "open_device", lambda: device)
    with pytest.raises(UserError) as caught:
        onnxruntime_cuda.open_stream()
    assert str(caught.value) == (
        "ONNX Runtime works in a GPU's primary context alone: import pycuda.autoprimaryctx in "
        "place of pycuda.autoinit, or use --backend tensorrt-rtx"
    )


@pytest.mark.parametrize("image", [None, np.full((32, 48, 3), 90, np.uint8)])
def test_arrays_of_the_device_go_in_and_out(on_cpu: CpuStream, image: Any) -> None:
    values = np.random.default_rng(0).normal(size=(1, 16, 2, 4, 6)).astype(np.float32)
    theirs = on_cpu.upload(values)
    with mutoscope.load(backend="onnxruntime-cuda") as pipe:
        wanted = pipe(PROMPT, latents=values, image=image, **OPTIONS).frames
        on_cpu.calls.clear()
        shown = None if image is None else on_cpu.upload(image)
        stream = pipe.stream(PROMPT, latents=theirs, image=shown, **OPTIONS)
        assert "adopt" in on_cpu.calls
        assert (stream.native_latents.pointer == theirs.pointer) is (image is None)
        steps = list(stream)
        assert all(isinstance(step.native_latents, CpuArray) for step in steps)
        assert len({step.native_latents.pointer for step in steps}) == len(steps)
        assert theirs.values().tobytes() == values.tobytes()
        taken = OnlyInterface(stream.native_latents)
        on_cpu.calls.clear()
        pieces = list(pipe.decode(taken, native=True))  # type: ignore[arg-type]
        assert not any(call.startswith("download") for call in on_cpu.calls)
        assert all(isinstance(piece, CpuArray) for piece in pieces)
        np.testing.assert_array_equal(np.concatenate([p.values() for p in pieces]), wanted)


class OnlyInterface:
    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.array.__cuda_array_interface__


def test_on_a_stream_of_its_own_a_run_waits(on_cpu: CpuStream) -> None:
    with open_graph(Bundle.open(EMBEDDED), "denoiser", backend="onnxruntime-cuda") as session:
        session.run(feeds())
        assert on_cpu.calls[-1] == "synchronize"


@pytest.mark.parametrize("name", ["denoiser", "vae_decoder_next"])
def test_attention_is_told_nothing_that_cuda_refuses(name: str) -> None:
    bundle = Bundle.open(EMBEDDED)
    content = onnxruntime_cuda.content_for_gpu(bundle, name, EngineOptions())
    nodes = parse(content.model, EMBEDDED).graph.node
    attentions = [node for node in nodes if node.op_type == "Attention"]
    assert attentions
    for node in attentions:
        assert not any(a.name == "softmax_precision" for a in node.attribute)
        assert name != "denoiser" or any(a.name == "q_num_heads" for a in node.attribute)


def placed(monkeypatch: pytest.MonkeyPatch, on_cpu: Callable[[Any], bool]) -> list[str]:
    """Let CUDA's provider take what the CPU's takes, but for some nodes; the names of all."""
    ask, seen = onnxruntime.InferenceSession.get_provider_graph_assignment_info, list[str]()

    def told(session: Any) -> list[Any]:
        nodes = [node for part in ask(session) for node in part.get_nodes()]
        seen.extend(node.name for node in nodes)
        parts = {CPU: filter(on_cpu, nodes), "CUDA": filter(lambda n: not on_cpu(n), nodes)}
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda taken=list(taken): taken)
            for name, taken in parts.items()
        ]

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info", told)
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["CUDA", CPU])
    monkeypatch.setattr(onnxruntime_cuda, "CUDA", "CUDA")
    return seen


@pytest.mark.parametrize("name", ["text_encoder", "denoiser", "vae_decoder_next"])
def test_shapes_may_be_the_cpu_s(
    name: str, on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime has it on purpose: what follows from a Shape."""
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(stream=on_cpu)
    content = onnxruntime_cuda.content_for_gpu(bundle, name, options)
    graph = parse(content.model, EMBEDDED).graph
    shapes = shape_nodes(graph)
    seen = placed(monkeypatch, lambda node: node.name in shapes)
    open_graph(bundle, name, backend="onnxruntime-cuda", options=options).close()
    assert shapes & set(seen)
    assert set(seen) < {node.name for node in graph.node}  # they are told by the graph's own names


@pytest.mark.parametrize("op", ["MatMul", "Concat", "Add"])
def test_what_falls_to_the_cpu_is_an_error(
    op: str, on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(monkeypatch, lambda node: node.op_type == op)
    options = EngineOptions(stream=on_cpu)
    with pytest.raises(UserError) as caught:
        open_graph(Bundle.open(EMBEDDED), "denoiser", backend="onnxruntime-cuda", options=options)
    assert re.fullmatch(
        rf"denoiser: ONNX Runtime has no kernel of CUDA for \d+ of its nodes, the first is \w+ "
        rf"\({op}\), and would run them on the CPU; use --backend onnxruntime",
        str(caught.value),
    )


def test_an_old_onnx_runtime_is_told(on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch) -> None:
    base = onnxruntime.InferenceSession.__base__
    monkeypatch.delattr(base, "get_provider_graph_assignment_info")
    options = EngineOptions(stream=on_cpu)
    with pytest.raises(UserError, match=r"install a newer one with: pip install -U 'mutoscope"):
        open_graph(Bundle.open(EMBEDDED), "denoiser", backend="onnxruntime-cuda", options=options)


def test_shapes_are_told_from_what_is_computed() -> None:
    graph = SimpleNamespace(
        initializer=[SimpleNamespace(name=n, dims=d) for n, d in (("two", [1]), ("w", [9, 99]))],
        node=[
            node("late", "Concat", "half", "two"),
            node("shape", "Shape", "x"),
            node("half", "Div", "shape", "two"),
            node("constant", "Constant"),
            node("product", "MatMul", "x", "w"),
            node("cast", "Cast", "w"),
            node("reshaped", "Reshape", "product", "late"),
            node("sum", "Add", "constant", "reshaped"),
        ],
    )  # fmt: skip
    assert shape_nodes(graph) == {"late", "shape", "half", "constant"}


def node(name: str, op: str, *inputs: str) -> Any:
    return SimpleNamespace(name=name, op_type=op, input=inputs, output=[name])


def test_a_package_for_cpus_says_what_to_install() -> None:
    with pytest.raises(UserError) as caught:
        onnxruntime_cuda.open_stream()
    assert str(caught.value) == (
        "the onnxruntime that is installed is for CPUs; replace it with: "
        "pip uninstall onnxruntime; pip install 'mutoscope[cuda]'"
    )


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime-gpu is not installed.*mutoscope\[cuda\]"):
        onnxruntime_cuda.open_stream()


def test_a_cuda_part_that_does_not_load_is_told(
    on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "CUDA", "CUDAExecutionProvider")
    options = EngineOptions(stream=on_cpu)
    with pytest.raises(UserError, match="ONNX Runtime cannot load its CUDA part"):
        open_graph(Bundle.open(EMBEDDED), "denoiser", backend="onnxruntime-cuda", options=options)
