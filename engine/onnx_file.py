"""An ONNX file whose initializers can be read and replaced, without the `onnx` package.

Only the fields that are needed are declared; Protocol Buffers keeps all others as they are.
Source: `onnx/onnx.proto`, messages ModelProto, OperatorSetIdProto, GraphProto, NodeProto,
AttributeProto, ValueInfoProto, TypeProto, TensorProto, StringStringEntryProto.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .bundle import Bundle
from .floats import read_floats
from .protobuf import Messages, message_class

EXTERNAL = 1
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

FLOAT, FLOAT16, BFLOAT16, FLOAT8 = 1, 10, 16, 17
FLOAT8_NAME = "float8_e4m3fn"
"""As NumPy calls the type, which knows it from the package `ml_dtypes`."""

STORED = {FLOAT: "F32", FLOAT16: "F16", BFLOAT16: "BF16"}
BYTES = {FLOAT: 4, FLOAT16: 2, BFLOAT16: 2}
CODES = {
    "float32": FLOAT, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": FLOAT16,
    FLOAT8_NAME: FLOAT8,
}  # fmt: skip
"""Of types, by NumPy's names."""
NUMBERS = {FLOAT: np.float32, CODES["int64"]: np.int64}
"""What small tensors hold, by ONNX's codes."""

MESSAGES: Messages = {
    "Model": {"graph": (7, "Graph"), "opset_import": (8, "Opset*")},
    "Opset": {"domain": (1, "string"), "version": (2, "int64")},
    "Graph": {
        "node": (1, "Node*"),
        "initializer": (5, "Tensor*"),
        "input": (11, "Input*"),
        "output": (12, "Output*"),
    },
    "Node": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "name": (3, "string"),
        "op_type": (4, "string"),
        "attribute": (5, "Attribute*"),
        "domain": (7, "string"),
    },
    "Attribute": {
        "name": (1, "string"),
        "f": (2, "float"),
        "i": (3, "int64"),
        "s": (4, "bytes"),
        "ints": (8, "int64*"),
        "type": (20, "int32"),
    },
    "Input": {"name": (1, "string"), "type": (2, "Type")},
    "Output": {"name": (1, "string")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int32")},
    "Tensor": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
        "external_data": (13, "Entry*"),
        "data_location": (14, "int32"),
    },
    "Entry": {"key": (1, "string"), "value": (2, "string")},
}


class OnnxFile:
    """The file of one graph of a bundle.

    Attributes:
        model: the file, as a message.
        shapes: of the initializers that hold floats, by name.
    """

    def __init__(self, bundle: Bundle, graph: str) -> None:
        """Read the file.

        Raises:
            BundleError: it is no ONNX file.
            MissingExtraError: the package `protobuf` is not installed.
        """
        self._bundle, self._graph = bundle, bundle.graph(graph)
        self.path = bundle.file(self._graph.file)
        self.model = parse(self.path.read_bytes(), self.path)
        self._tensors = {
            tensor.name: tensor
            for tensor in self.model.graph.initializer
            if tensor.data_type in STORED
        }
        self.shapes = {name: tuple(tensor.dims) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> NDArray[np.float32]:
        """The values of an initializer.

        Raises:
            BundleError: they are not where the file says.
        """
        tensor = self._tensors[name]
        wanted = math.prod(tensor.dims) * BYTES[tensor.data_type]
        data = self.external(tensor) if tensor.data_location == EXTERNAL else tensor.raw_data
        if len(data) != wanted:
            raise BundleError(
                f"{self.path}: {name!r} has {len(data)} bytes, {wanted} expected; "
                "export the bundle again"
            )
        return read_floats(data, STORED[tensor.data_type]).reshape(self.shapes[name])

    def is_float16(self, name: str) -> bool:
        """Whether an initializer is stored in fp16."""
        return bool(self._tensors[name].data_type == FLOAT16)

    def replace(self, name: str, dtype: np.dtype[Any]) -> None:
        """Declare that an initializer is of another type, and that its values come from outside."""
        tensor = self._tensors[name]
        tensor.Clear()
        _declare(tensor, name, self.shapes[name], dtype)

    def numbers(self, name: str) -> list[float]:
        """The few numbers of an initializer that lies in the file; none where there is no such."""
        tensor = next((t for t in self.model.graph.initializer if t.name == name), None)
        if tensor is None or tensor.data_type not in NUMBERS:
            return []
        found: list[float] = np.frombuffer(tensor.raw_data, NUMBERS[tensor.data_type]).tolist()
        return found

    def serialize(self) -> bytes:
        """The whole as it is now."""
        raw: bytes = self.model.SerializeToString()
        return raw

    def external(self, tensor: Any) -> bytes:
        """The bytes of a tensor that has them in another file.

        Raises:
            BundleError: that is none of the bundle's.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries["length"])
        except (KeyError, ValueError):
            offset = length = -1
        if location not in self._graph.data or min(offset, length) < 0:
            raise BundleError(
                f"{self.path}: {tensor.name!r} has its values in no file of the bundle; refused"
            )
        path = self._bundle.file(location)
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(min(length, path.stat().st_size))


def add_initializer(model: Any, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Declare another initializer of a model, whose values come from outside."""
    _declare(model.graph.initializer.add(), name, shape, dtype)


def _declare(tensor: Any, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    tensor.name, tensor.data_type, tensor.data_location = name, CODES[dtype.name], EXTERNAL
    tensor.dims.extend(shape)
    tensor.external_data.add(key="location", value="elsewhere")


def parse(raw: bytes, path: Path, messages: Messages = MESSAGES) -> Any:
    """The content of an ONNX file, as a message with the fields that are declared.

    Raises:
        BundleError: it is none.
        MissingExtraError: the package `protobuf` is not installed.
    """
    kind = message_class("Model", messages)
    try:
        return kind.FromString(raw)
    except Exception as error:
        # DecodeError is of another module in each implementation of protobuf
        raise BundleError(f"{path} is no ONNX file; export the bundle again") from error


def useful(nodes: Sequence[Any], results: Iterable[str]) -> list[Any]:
    """Those of some nodes on which results depend, in their order."""
    needed, kept = set(results), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def use_domain(model: Any, domain: str) -> None:
    """Say that a file has operators of a domain, in their first version."""
    if domain not in {opset.domain for opset in model.opset_import}:
        model.opset_import.add(domain=domain, version=1)
