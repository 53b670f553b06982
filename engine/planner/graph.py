"""The nodes of an ONNX graph, without its weights and without the `onnx` package.

Source: `onnx/onnx.proto`, messages GraphProto, NodeProto, AttributeProto, TensorProto.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..onnx_file import parse
from ..protobuf import Messages

MESSAGES: Messages = {
    "Model": {"graph": (7, "Graph")},
    "Graph": {"node": (1, "Node*"), "initializer": (5, "Tensor*"), "output": (12, "Output*")},
    "Output": {"name": (1, "string")},
    "Node": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "op_type": (4, "string"),
        "attribute": (5, "Attribute*"),
    },
    "Attribute": {
        "name": (1, "string"),
        "f": (2, "float"),
        "i": (3, "int64"),
        "s": (4, "bytes"),
        "t": (5, "Tensor"),
        "floats": (7, "float*"),
        "ints": (8, "int64*"),
        "type": (20, "int32"),
    },
    "Tensor": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "int64_data": (7, "int64*"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
    },
}
FIELDS = {1: "f", 2: "i", 4: "t", 6: "floats", 7: "ints"}
"""Where an attribute of each type has its value."""

FLOAT, INT32, INT64, BOOL, FLOAT16, BFLOAT16 = 1, 6, 7, 9, 10, 16
BYTES: dict[int, float] = {
    FLOAT: 4, 2: 1, 3: 1, INT32: 4, INT64: 8, BOOL: 1, FLOAT16: 2, 11: 8, BFLOAT16: 2, 17: 1, 18: 1,
    21: 0.5, 22: 0.5,
}  # fmt: skip
"""Of an element of each type, by the code that ONNX has for it."""

CODES = {"float32": FLOAT, "float16": FLOAT16, "int64": INT64, "int32": INT32, "bool": BOOL}
READABLE = {FLOAT: np.float32, INT32: np.int32, INT64: np.int64, BOOL: np.bool_}


@dataclass(frozen=True)
class Value:
    """A tensor as far as it is known without running anything.

    Attributes:
        shape: its dimensions.
        code: of its type, in ONNX.
        content: its elements, where they are few and known: shapes are computed from them.
    """

    shape: tuple[int, ...]
    code: int
    content: NDArray[Any] | None = None

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operation: names of what it takes (empty where nothing is given) and of what it gives."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """A graph: its nodes in an order in which they can run, its weights, its results."""

    nodes: tuple[Node, ...]
    initializers: dict[str, Value]
    outputs: tuple[str, ...]


def read_graph(bundle: Bundle, name: str) -> OnnxGraph:
    """Read one graph of a bundle.

    Raises:
        BundleError: it is no ONNX file.
        MissingExtraError: the package `protobuf` is not installed.
    """
    path = bundle.file(bundle.graph(name).file)
    return to_graph(path.read_bytes(), path)


def to_graph(raw: bytes, path: Path) -> OnnxGraph:
    """The graph in the content of a file; raises as `read_graph`."""
    graph = parse(raw, path, MESSAGES).graph
    return OnnxGraph(
        nodes=tuple(
            Node(n.op_type, tuple(n.input), tuple(n.output), _attributes(n)) for n in graph.node
        ),
        initializers={tensor.name: _value(tensor) for tensor in graph.initializer},
        outputs=tuple(output.name for output in graph.output),
    )


def _attributes(node: Any) -> dict[str, Any]:
    known = (a for a in node.attribute if a.type in FIELDS)
    return {a.name: READ[a.type](getattr(a, FIELDS[a.type])) for a in known}


def _value(tensor: Any) -> Value:
    shape, content = tuple(tensor.dims), None
    if tensor.raw_data and tensor.data_type in READABLE:
        content = np.frombuffer(tensor.raw_data, READABLE[tensor.data_type]).reshape(shape)
    elif len(tensor.int64_data) == math.prod(shape):
        content = np.array(tensor.int64_data, np.int64).reshape(shape)
    return Value(shape, tensor.data_type, content)


READ: dict[int, Callable[[Any], Any]] = {1: float, 2: int, 4: _value, 6: list, 7: list}
"""What is made of the value of each."""
