"""Where the new tensors of a graph go: into memory, to try it, or into a file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..engine.onnx_file import CODES, EXTERNAL, OnnxFile

INLINE_BYTES = 1024
"""Smaller tensors lie in the graph's own file."""

PAGE, LARGE = 4096, 1 << 20
"""Large tensors begin at a page, so that they can be mapped into memory; both in bytes."""


class Store(Protocol):
    """Takes tensors; both arguments named `tensor` are ONNX's messages."""

    def put(self, tensor: Any, values: NDArray[Any]) -> None:
        """Take a new one."""

    def keep(self, tensor: Any, file: OnnxFile) -> None:
        """Take one that the graph has and goes on having, with its values in another file."""


class Memory:
    """Holds new tensors in `values`, by name; what a graph has stays where it is."""

    def __init__(self) -> None:
        self.values: dict[str, NDArray[Any]] = {}

    def put(self, tensor: Any, values: NDArray[Any]) -> None:
        """Hold it; small ones stand in the graph."""
        declare(tensor, values)
        if values.nbytes <= INLINE_BYTES:
            tensor.raw_data = values.tobytes()
        else:
            self.values[tensor.name] = np.ascontiguousarray(values)
            refer(tensor, "memory", 0, values.nbytes)

    def keep(self, tensor: Any, file: OnnxFile) -> None:
        """Nothing is moved."""


class WeightFile(Closing):
    """A file of weights in the making; use it in a `with`. One tensor at a time is in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb")

    def put(self, tensor: Any, values: NDArray[Any]) -> None:
        """Write it; small ones stand in the graph."""
        declare(tensor, values)
        if values.nbytes <= INLINE_BYTES:
            tensor.raw_data = values.tobytes()
        else:
            self._append(tensor, values.tobytes())

    def keep(self, tensor: Any, file: OnnxFile) -> None:
        """Copy it."""
        data = file.external(tensor)
        del tensor.external_data[:]
        self._append(tensor, data)

    def _append(self, tensor: Any, data: bytes) -> None:
        align = PAGE if len(data) >= LARGE else 64
        self._stream.write(b"\0" * (-self._stream.tell() % align))
        refer(tensor, self.path.name, self._stream.tell(), len(data))
        self._stream.write(data)

    def close(self) -> None:
        """Close the file, whole or not."""
        self._stream.close()


def declare(tensor: Any, values: NDArray[Any]) -> None:
    """Say in a message of what type and shape a tensor is."""
    tensor.data_type = CODES[values.dtype.name]
    tensor.dims.extend(values.shape)


def refer(tensor: Any, location: str, offset: int, length: int) -> None:
    """Say in a message where a tensor's bytes are."""
    tensor.data_location = EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
