"""A bundle's graph as TensorRT's parser takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....errors import BundleError, MissingExtraError
from ...manifest import GraphSpec
from .int8_attention import put_plugin

UNSUPPORTED = "softmax_precision"
"""TensorRT's parser refuses this attribute of `Attention`; its own kernels choose."""


def parsable(path: Path, graph: GraphSpec, extra: str, *, int8_attention: bool = False) -> bytes:
    """The graph without its weights, which the parser reads from their files beside `path`.

    With `int8_attention` its attention is the plugin's.

    Raises:
        MissingExtraError: the package onnx is not installed.
        BundleError: the file is no ONNX graph, or its weights lie elsewhere than the bundle says.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", extra) from None
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        # protobuf's exceptions share no base class that is public
        raise BundleError(f"{path} is not an ONNX graph: {error}") from None
    _check_locations(model, path, graph)
    if int8_attention:
        put_plugin(model)
    for node in model.graph.node:
        kept = [a for a in node.attribute if a.name != UNSUPPORTED]
        if node.op_type == "Attention" and len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)
    whole: bytes = model.SerializeToString()
    return whole


def _check_locations(model: Any, path: Path, graph: GraphSpec) -> None:
    constants = (a.t for node in model.graph.node for a in node.attribute)
    for tensor in (*model.graph.initializer, *constants):
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value not in graph.data:
                raise BundleError(f"{path} reads {entry.value!r}, which is not among its weights")
