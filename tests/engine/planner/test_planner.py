"""The planner's view of the embedded bundle's graphs, against ONNX Runtime's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.backends.onnxruntime import attention
from mutoscope.engine.backends.onnxruntime.session import FOLDER_OF_WEIGHTS
from mutoscope.engine.onnx_file import FLOAT8, OnnxFile
from mutoscope.engine.planner import needs
from mutoscope.engine.planner.graph import CODES, MESSAGES, Node, OnnxGraph, Value, read_graph
from mutoscope.engine.planner.order import execution_order
from mutoscope.engine.planner.peak import measure, natural, on_cpu
from mutoscope.engine.planner.shapes import infer
from mutoscope.engine.protobuf import message_class
from mutoscope.engine.session import axis_length
from mutoscope.errors import BundleError, MutoscopeError

onnxruntime = pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

GRAPHS = (
    "text_encoder", "denoiser", "vae_decoder_first", "vae_decoder_next", "vae_encoder_first",
    "vae_encoder_next",
)  # fmt: skip
AXES = {"batch": 2, "tokens": 7, "latent_frames": 3, "latent_height": 4, "latent_width": 6}


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return Bundle.open(Path(mutoscope.__file__).parent / "models" / "mini-wan")


def feeds(bundle: Bundle, name: str) -> dict[str, Any]:
    return {
        spec.name: np.ones([axis_length(axis, AXES) for axis in spec.shape], spec.dtype)
        for spec in bundle.graph(name).inputs
    }


def open_with_all_outputs(bundle: Bundle, name: str) -> Any:
    """A session that gives every tensor of a graph."""
    path = bundle.file(bundle.graph(name).file)
    model = message_class("Model", MESSAGES).FromString(path.read_bytes())
    known = {output.name for output in model.graph.output}
    for node in model.graph.node:
        for output in node.output:
            if output and output not in known:
                model.graph.output.add(name=output)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(FOLDER_OF_WEIGHTS, str(path.parent))
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_shape_is_onnx_runtimes(embedded: Bundle, name: str) -> None:
    session, given = open_with_all_outputs(embedded, name), feeds(embedded, name)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, given), strict=True))
    inputs = {name: Value(array.shape, CODES[array.dtype.name]) for name, array in given.items()}
    values = infer(read_graph(embedded, name), inputs)
    assert {n: values[n].shape for n in names} == {n: a.shape for n, a in found.items()}
    for tensor in names:
        content = values[tensor].content
        if content is not None:
            np.testing.assert_array_equal(content, found[tensor])


@pytest.mark.parametrize("name", GRAPHS)
def test_the_order_is_onnx_runtimes(embedded: Bundle, name: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    path = embedded.file(embedded.graph(name).file)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, feeds(embedded, name))
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]
    assert [node.op for node in execution_order(read_graph(embedded, name).nodes)] == ran


def graph_of(*nodes: Node, outputs: tuple[str, ...]) -> OnnxGraph:
    return OnnxGraph(nodes, {}, outputs)


def test_what_lives_at_one_time() -> None:
    """Two results of 400 bytes at once; the sum takes the place of one, the view shares it."""
    graph = graph_of(
        Node("Transpose", ("x",), ("a",), {}),
        Node("Softmax", ("a",), ("b",), {}),
        Node("Add", ("a", "b"), ("c",), {}),
        Node("Identity", ("c",), ("d",), {}),
        outputs=("d",),
    )
    values = infer(graph, {"x": Value((10, 10), CODES["float32"])})
    peak = measure(graph, values, natural, fused=True, runs=1)
    assert (peak.weights, peak.live, peak.arena) == (0, 800, 1024)  # chunks of 256 bytes


def test_half_precision_is_computed_in_fp32_on_a_cpu() -> None:
    graph = graph_of(Node("Softmax", ("x",), ("y",), {}), outputs=("y",))
    values = infer(graph, {"x": Value((1000,), CODES["float16"])})
    assert measure(graph, values, natural, fused=True, runs=1).live == 2000
    assert measure(graph, values, on_cpu, fused=True, runs=1).live == 4000


def test_attention_holds_scores_unless_fused() -> None:
    names = ("q", "k", "v")
    graph = graph_of(Node("Attention", names, ("y",), {}), outputs=("y",))
    inputs = {name: Value((2, 3, 50, 8), CODES["float32"]) for name in names}
    values = infer(graph, inputs)
    result = 2 * 3 * 50 * 8 * 4
    assert measure(graph, values, natural, fused=True, runs=1).live == result
    scores = 2 * 3 * 50 * 50 * 4
    assert measure(graph, values, natural, fused=False, runs=1).live == result + scores


def test_our_own_attention_lays_keys_and_values_in_bf16() -> None:
    graph = graph_of(Node("BlockedAttention", ("q", "k", "v"), ("y", "w"), {}), outputs=("y",))
    keys = Value((2, 130, 24), CODES["float32"])
    values = infer(graph, {"q": Value((2, 50, 24), CODES["float32"]), "k": keys, "v": keys})
    result, tokens = 2 * 50 * 24 * 4, 256  # two blocks
    laid = 2 * tokens * (2 * 24 * 2 + 4)
    assert measure(graph, values, on_cpu, fused=False, runs=1).live == result + laid


def test_attention_in_blocks_holds_no_scores(
    embedded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {**AXES, "latent_height": 40, "latent_width": 40}
    whole = needs(embedded, "denoiser", axes).cpu.arena
    monkeypatch.setattr(attention, "WIDE", 0)
    heads = embedded.manifest.denoiser.heads
    scores = 2 * heads * (3 * 20 * 20) ** 2 * 4  # some of their place is taken again
    assert whole - needs(embedded, "denoiser", axes).cpu.arena > 0.9 * scores


def test_folded_weights_count_as_they_are_held(embedded: Bundle) -> None:
    """Stored in fp16, held in fp32, as TensorRT does: docs/tensorrt.md."""
    told = needs(embedded, "denoiser", AXES)
    tensors = OnnxFile(embedded, "denoiser").model.graph.initializer
    stored = sum(math.prod(tensor.dims) for tensor in tensors if tensor.external_data)
    assert told.gpu.weights == pytest.approx(4 * stored, rel=0.01)
    # but for the sizes of heads, a few integers that a CPU's form of the graph does without
    assert told.cpu.weights == pytest.approx(told.gpu.weights, abs=256)


@pytest.mark.parametrize("decoded", [(), {FLOAT8}])
def test_quantized_weights_stay_unless_they_are_decoded_on_opening(decoded: set[int]) -> None:
    graph = OnnxGraph(
        nodes=(
            Node("DequantizeLinear", ("w", "scale"), ("matrix",), {}),
            Node("MatMul", ("x", "matrix"), ("y",), {}),
        ),
        initializers={"w": Value((100, 50), FLOAT8), "scale": Value((), CODES["float32"])},
        outputs=("y",),
    )
    values = infer(graph, {"x": Value((3, 100), CODES["float32"])})
    peak = measure(graph, values, on_cpu, fused=False, runs=1, decoded=decoded)
    matrix, result = 100 * 50 * 4, 3 * 50 * 4
    assert (peak.weights, peak.live) == (
        (matrix, result) if decoded else (100 * 50 + 4, matrix + result)
    )


def test_an_operator_that_is_not_known() -> None:
    graph = graph_of(Node("Fancy", ("x",), ("y",), {}), outputs=("y",))
    with pytest.raises(MutoscopeError, match="the operator Fancy is not known to the planner"):
        infer(graph, {"x": Value((1,), 1)})


def test_a_shape_that_only_a_run_would_tell() -> None:
    graph = graph_of(Node("Reshape", ("x", "shape"), ("y",), {}), outputs=("y",))
    with pytest.raises(MutoscopeError, match="cannot follow Reshape: its shape depends on values"):
        infer(graph, {"x": Value((4,), 1), "shape": Value((2,), 7)})


def test_a_file_that_is_no_graph(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"denoiser.onnx is no ONNX file; export the bundle ag"):
        needs(bundle, "denoiser", AXES)
