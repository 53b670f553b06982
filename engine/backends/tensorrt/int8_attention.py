"""Attention with scores in int8 in the place of `Attention` nodes: a plugin of TensorRT, in Python.

An engine names the plugin and holds no code of it: whoever opens the engine must bring it. It has
no tactics to time, so that engines are built without a GPU.
Source: TensorRT-RTX 1.7, `IPluginV3` of its Python API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import MutoscopeError
from ....kernels.attention_ops import AttentionOps, workspace_bytes
from ....kernels.cuda_array import CudaArray
from ....kernels.device import Stream
from ...int8_attention import DOMAIN, OPERATOR, SCALE, replace_attention

FLAG = "int8-attention"
"""Of an engine that has the plugin."""

NAME, NAMESPACE, VERSION = OPERATOR, DOMAIN, "1"
"""What an engine asks for; another version for each change of the kernels' workspace or numbers."""

STRING_ATTRIBUTE = 3
"""By the code that ONNX has for it."""


def put_plugin(model: Any) -> None:
    """Put the plugin in the place of a graph's attention; `model` is of the package onnx.

    Raises:
        BundleError: there is none that the plugin can stand for.
    """
    for node in replace_attention(model):
        for name, text in (("plugin_version", VERSION), ("plugin_namespace", NAMESPACE)):
            node.attribute.add(name=name, s=text.encode(), type=STRING_ATTRIBUTE)


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
