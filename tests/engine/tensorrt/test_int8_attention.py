"""Attention in int8 behind `Attention` nodes: the graph, the plugin, engines that have it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope import cli
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends.tensorrt.engines import describe
from mutoscope.engine.backends.tensorrt.int8_attention import FLAG, put_plugin, register
from mutoscope.engine.backends.tensorrt.package import TENSORRT, TENSORRT_RTX
from mutoscope.engine.backends.tensorrt.parser_library import LIBRARIES, find_library
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import Built, EngineStore
from mutoscope.errors import BundleError, MissingExtraError, MutoscopeError, UserError
from mutoscope.kernels.attention_ops import workspace_bytes
from mutoscope.kernels.int8_attention import int8_attention

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
EXTRA = "building engines needs the rtx extra: pip install -e '.[rtx]'"
SIZE = LatentSize(2, 4, 4)


def with_heads(bundle: Bundle, heads: int) -> Bundle:
    """The same, of a denoiser that has 128 channels."""
    spec = msgspec.structs.replace(bundle.manifest.denoiser, hidden_size=128, heads=heads)
    manifest = msgspec.structs.replace(bundle.manifest, denoiser=spec)
    return Bundle(bundle.path, manifest, bundle.sha256)


def keep_engine(bundle: Bundle, plan: bytes, *flags: str) -> None:
    spec = describe(TENSORRT_RTX, bundle, "denoiser", [SIZE], ["sm_89"], flags)
    EngineStore().get(spec, "null", lambda: Built(plan, "", {}, 0.0, 0.0, 0.0))


def test_nodes_are_replaced() -> None:
    onnx = pytest.importorskip("onnx", reason=EXTRA)
    bundle = Bundle.open(EMBEDDED)
    model = onnx.load(bundle.file("denoiser.onnx"), load_external_data=False)
    before = [(*n.input, *n.output) for n in model.graph.node if n.op_type == "Attention"]
    model.graph.node.add(op_type="Attention", input=["a", "b", "c", "d"], output=["e"])
    causal = onnx.helper.make_node("Attention", ["a", "b", "c"], ["f"], is_causal=1)
    model.graph.node.append(causal)
    put_plugin(model)
    found = [node for node in model.graph.node if node.domain == "mutoscope"]
    assert [(*node.input, *node.output) for node in found] == before
    assert len(found) == 2 * bundle.manifest.denoiser.layers
    assert [n.op_type for n in model.graph.node][-2:] == ["Attention", "Attention"]
    told = {a.name: onnx.helper.get_attribute_value(a) for a in found[0].attribute}
    assert told.keys() == {"scale", "plugin_version", "plugin_namespace"}
    assert told["scale"] == 0
    with pytest.raises(BundleError, match="no attention that could be computed in int8"):
        put_plugin(model)


class Registry:
    """Keeps the creator that is registered."""

    def register_creator(self, creator: Any, namespace: str) -> bool:
        self.creator = creator
        return True


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_the_plugin_computes_what_the_statement_says(cpu_stream: CpuStream, scale: float) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    registry = Registry()
    register(trt, registry, cpu_stream)  # type: ignore[arg-type]
    fields = trt.PluginFieldCollection(
        [trt.PluginField("scale", np.array([scale], np.float32), trt.PluginFieldType.FLOAT32)]
    )
    made = registry.creator.create_plugin("attention", fields, trt.TensorRTPhase.RUNTIME)
    plugin = made.attach_to_context(None)
    kept = list(plugin.get_fields_to_serialize())
    assert [(field.name, float(field.data[0])) for field in kept] == [
        ("scale", pytest.approx(scale))
    ]
    random = np.random.default_rng(4)
    shapes = [(1, 2, 9, 32), (1, 2, 70, 32), (1, 2, 70, 32), (1, 2, 9, 32)]
    arrays = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    described = [SimpleNamespace(dims=shape, type=trt.DataType.FLOAT) for shape in shapes]
    *there, output = [cpu_stream.upload(array) for array in arrays]
    limits = [SimpleNamespace(max=trt.Dims(shape)) for shape in shapes]
    size = plugin.get_workspace_size(limits[:3], limits[3:])
    assert size == workspace_bytes(*shapes[1])
    pointers = [array.pointer for array in there]
    workspace = cpu_stream.empty((size,), "uint8")
    arguments = [described[:3], described[3:], pointers, [output.pointer], workspace.pointer]
    plugin.enqueue(*arguments, cpu_stream.handle)
    stated = int8_attention(*arrays[:3], scale=scale or None)
    np.testing.assert_allclose(output.values(), stated, atol=1e-3)
    with pytest.raises(MutoscopeError, match="on the stream that its engine was opened for"):
        plugin.enqueue(*arguments, cpu_stream.handle + 1)


def test_a_plugin_that_is_not_taken() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    refusing = SimpleNamespace(register_creator=lambda creator, namespace: False)
    with pytest.raises(MutoscopeError, match="does not take the plugin Int8Attention"):
        register(trt, refusing)


def test_an_engine_is_built_without_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    """This process has opened the package; the one that builds opens its parser another way."""
    pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    options = "--graphs denoiser,vae_decoder_first --arch sm_86,sm_120 --profile 32x48x5 --json"
    cli.main(["build", str(EMBEDDED), "--int8-attention", *options.split()])
    denoiser, decoder = json.loads(capfd.readouterr().out)["engines"]
    assert (denoiser["flags"], decoder["flags"]) == ([FLAG], [])
    listing = (Path(denoiser["path"]) / "layers.txt").read_text()
    layers = Bundle.open(EMBEDDED).manifest.denoiser.layers
    assert listing.count("LayerType: custom_layer") == 2 * layers
    assert set(re.findall(r"StreamId: (\d+)", listing)) == {"0"}
    plan = (Path(denoiser["path"]) / "engine.plan").read_bytes()
    assert b"Int8Attention" in plan


def test_a_session_takes_the_engine_that_is_asked_for(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = with_heads(one_graph(), 4)
    keep_engine(bundle, b"exact")
    keep_engine(bundle, b"in int8", FLAG)
    feeds = {"x": np.zeros((1, 4, 2, 4, 4), np.float32)}
    for wanted, calls in (
        (False, ["deserialize exact"]),
        (True, ["register mutoscope Int8Attention 1", "deserialize in int8"]),
    ):
        recorder.calls.clear()
        options = EngineOptions(int8_attention=wanted)
        with open_graph(bundle, "denoiser", backend="tensorrt-rtx", options=options) as session:
            session.run(feeds)
        assert recorder.calls[: len(calls)] == calls
    assert all(context.shapes for context in recorder.contexts)


def test_a_clip_that_no_engine_takes_names_the_option(
    recorder: Any, one_graph: Callable[..., Bundle]
) -> None:
    bundle = with_heads(one_graph(), 4)
    options = EngineOptions(int8_attention=True)
    feeds = {"x": np.zeros((1, 4, 9, 40, 40), np.float32)}
    told = "--profile WIDTHxHEIGHTxFRAMES --int8-attention$"
    with (
        open_graph(bundle, "denoiser", backend="tensorrt-rtx", options=options) as session,
        pytest.raises(UserError, match=told),
    ):
        session.run(feeds)


def test_heads_that_the_kernels_do_not_have(recorder: Any, bundle: Bundle) -> None:
    with pytest.raises(UserError, match="heads of denoiser have 4 channels; .* for 32, 64, 128$"):
        describe(TENSORRT_RTX, bundle, "denoiser", [SIZE], ["sm_89"], [FLAG])
    assert describe(TENSORRT_RTX, bundle, "text_encoder", [SIZE], ["sm_89"], [FLAG]).flags == ()


def test_backends_without_it(bundle: Bundle) -> None:
    with pytest.raises(UserError, match="'onnxruntime' has no attention in int8; use --backend"):
        open_graph(bundle, "denoiser", options=EngineOptions(int8_attention=True))
    with pytest.raises(UserError, match="is for tensorrt-rtx, not for tensorrt$"):
        describe(TENSORRT, bundle, "denoiser", [SIZE], (), [FLAG])


def test_the_parser_s_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = find_library.__wrapped__
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setitem(sys.modules, LIBRARIES, SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="before tensorrt_rtx is imported in a process"):
        find()
    (tmp_path / "libtensorrt_rtx.so").touch()
    find()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mutoscope\[rtx\]'"):
        find()
