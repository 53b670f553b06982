"""Attention with scores in int8 in the place of `Attention` nodes: a plugin of TensorRT, in Python.

An engine names the plugin and holds no code of it: whoever opens the engine must bring it. It has
no tactics to time, so that engines are built without a GPU.
Source: TensorRT-RTX 1.7, `IPluginV3` of its Python API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import BundleError, MutoscopeError, UserError
from ....kernels.attention_ops import HEAD_SIZES, AttentionOps, workspace_bytes
from ....kernels.cuda_array import CudaArray
from ....kernels.device import Stream
from ...bundle import Bundle
from ...manifest import DENOISERS

FLAG = "int8-attention"
"""Of an engine that has the plugin."""

NAME, NAMESPACE, VERSION = "Int8Attention", "mutoscope", "1"
"""What an engine asks for; another version for each change of the kernels' workspace or numbers."""

SCALE = "scale"
"""The plugin's one field, a float; 0 for 1 / sqrt(size)."""

FLOAT_ATTRIBUTE, STRING_ATTRIBUTE = 1, 3
"""By the codes that ONNX has for them."""


def takes_part(bundle: Bundle, name: str) -> bool:
    """Whether a graph's attention is to be replaced: denoisers', where all tokens meet.

    Raises:
        UserError: the kernels have no heads of the denoiser's size.
    """
    if name not in DENOISERS:
        return False
    size = bundle.manifest.denoiser.hidden_size // bundle.manifest.denoiser.heads
    if size not in HEAD_SIZES:
        raise UserError(
            f"{bundle.path}: the heads of {name} have {size} channels; attention in int8 is for "
            f"{', '.join(map(str, HEAD_SIZES))}"
        )
    return True


def replace_attention(model: Any) -> None:
    """Put the plugin in the place of a graph's attention; `model` is of the package onnx.

    Raises:
        BundleError: there is none that the plugin can stand for.
    """
    found = [node for node in model.graph.node if _replaceable(node)]
    if not found:
        raise BundleError("the graph has no attention that could be computed in int8")
    for node in found:
        scale = next((a.f for a in node.attribute if a.name == SCALE), 0.0)
        node.op_type, node.domain = NAME, NAMESPACE
        del node.attribute[:]
        node.attribute.add(name=SCALE, f=scale, type=FLOAT_ATTRIBUTE)
        for name, text in (("plugin_version", VERSION), ("plugin_namespace", NAMESPACE)):
            node.attribute.add(name=name, s=text.encode(), type=STRING_ATTRIBUTE)
    model.opset_import.add(domain=NAMESPACE, version=1)


def register(trt: Any, registry: Any, stream: Stream | None = None) -> Any:
    """Make the plugin known to a builder's or a runtime's registry.

    Args:
        trt: the package.
        registry: of plugins.
        stream: what engines will be run on; `None` where one is only built.

    Returns:
        What must be kept as long as the registry.

    Raises:
        MutoscopeError: the registry refuses it.
    """
    creator = type("Creator", (_Creator, trt.IPluginCreatorV3One), {})(trt, stream)
    if not registry.register_creator(creator, NAMESPACE):
        raise MutoscopeError(f"TensorRT does not take the plugin {NAME}")
    return creator


def _replaceable(node: Any) -> bool:
    """Of queries, keys and values alone, with heads along an axis of their own.

    Whatever else a node may say (a causal mask, a soft cap) is 0 then.
    """
    plain = {SCALE, "softmax_precision"}
    return (
        node.op_type == "Attention"
        and len(node.input) == 3
        and len(node.output) == 1
        and all(a.name in plain or a.i == a.f == 0 for a in node.attribute)
    )


class _Creator:
    """Makes plugins, from a node of a graph or of an engine."""

    def __init__(self, trt: Any, stream: Stream | None) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self._trt, self._stream = trt, stream
        self.name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
        self.field_names = _fields(trt, np.zeros(0, np.float32))
        bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild)
        self._kind = type("Plugin", (_Plugin, *bases, trt.IPluginV3OneRuntime), {})

    def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
        scales = [float(field.data[0]) for field in fields if field.name == SCALE]
        return self._kind(self._trt, self._stream, *scales)


class _Plugin:
    """One node: (queries, keys, values) → output, all (batch, heads, tokens, channels)."""

    def __init__(self, trt: Any, stream: Stream | None, scale: float = 0.0) -> None:
        interfaces: tuple[Any, ...] = type(self).__bases__[1:]
        for interface in interfaces:
            interface.__init__(self)
        self._trt, self._stream = trt, stream
        self._scale = np.array([scale], np.float32)
        self._dtypes = {
            trt.DataType.FLOAT: "float32",
            trt.DataType.HALF: "float16",
            trt.DataType.BF16: "bfloat16",
        }
        self.plugin_name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
        self.num_outputs = 1

    def get_capability_interface(self, kind: Any) -> Any:
        return self

    def clone(self) -> Any:
        return type(self)(self._trt, self._stream, float(self._scale[0]))

    def attach_to_context(self, context: Any) -> Any:
        return self.clone()

    def get_output_data_types(self, given: Sequence[Any]) -> list[Any]:
        return [given[0]]

    def get_output_shapes(self, given: Sequence[Any], shapes: Any, builder: Any) -> list[Any]:
        return [given[0]]

    def supports_format_combination(self, index: int, tensors: Sequence[Any], inputs: int) -> bool:
        first, asked = tensors[0].desc, tensors[index].desc
        linear = asked.format == self._trt.TensorFormat.LINEAR
        return linear and asked.type == first.type and asked.type in self._dtypes

    def configure_plugin(self, given: Any, made: Any) -> None: ...

    def on_shape_change(self, given: Any, made: Any) -> None: ...

    def set_tactic(self, tactic: int) -> None: ...

    def get_valid_tactics(self) -> list[int]:
        return []

    def get_workspace_size(self, given: Sequence[Any], made: Any) -> int:
        return workspace_bytes(*given[1].max)

    def get_fields_to_serialize(self) -> Any:
        return _fields(self._trt, self._scale)

    def enqueue(
        self,
        given: Sequence[Any],
        made: Sequence[Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        handle: int,
    ) -> None:
        stream = self._stream
        if stream is None or stream.handle != handle:
            raise MutoscopeError(f"{NAME} runs on the stream that its engine was opened for")
        arrays = [
            CudaArray(None, pointer, tuple(desc.dims), self._dtypes[desc.type], stream)
            for pointer, desc in zip((*inputs, *outputs), (*given, *made), strict=True)
        ]
        queries, keys, values, output = arrays
        size = workspace_bytes(*keys.shape)
        room = CudaArray(None, workspace, (size,), "uint8", stream)
        scale = float(self._scale[0]) or None
        AttentionOps(stream).int8_attention(queries, keys, values, room, output, scale=scale)


def _fields(trt: Any, scale: Any) -> Any:
    return trt.PluginFieldCollection([trt.PluginField(SCALE, scale, trt.PluginFieldType.FLOAT32)])
