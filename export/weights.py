"""Weights: from the checkpoint, a tensor at a time, into the bundle's files.

A file is shared by the graphs of one component, and equal tensors are stored once. What a graph
wants in fp32 and half precision holds exactly is stored in half precision with a `Cast` in the
graph, which the runtime folds when it loads the graph: half the disk, the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..engine.initializers import HALF, OWNER
from ..errors import CheckpointError
from .graph import Graph
from .passes import NARROW, add_initializer, lazy, replace_uses

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch import Tensor

INLINE_BYTES = 1024
"""Smaller tensors lie in the graph's own file."""

HALVES = {"F16": "float16", "BF16": "bfloat16"}
"""Safetensors' names of half precision, and PyTorch's."""

CHUNK = 1 << 24
"""Elements that are looked at at a time, for a small peak of memory."""


def check_weights(graph: Graph) -> None:
    """Compare the checkpoint's tensors with what the model wants, from their headers alone.

    Raises:
        CheckpointError: a weight is missing or of another shape.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    component, module = graph.component, graph.build(FakeTensorMode)
    for name, parameter in module.get_submodule("model").named_parameters():
        stored, wanted = component.shape(name), tuple(parameter.shape)
        if stored != wanted:
            raise CheckpointError(
                f"{component.folder} has {name!r} of shape {stored}, config.json says {wanted}; "
                "download the checkpoint again"
            )


def attach(model: ir.Model, graph: Graph) -> None:
    """Give a traced graph's initializers their values, which are read when they are written."""
    from torch._subclasses.fake_tensor import FakeTensor

    for name, value in model.graph.initializers.items():
        traced = value.const_value
        tensor: Any = getattr(traced, "raw", None)
        if traced is not None and isinstance(tensor, FakeTensor):
            key = name.removeprefix(OWNER)
            load, narrow = _loader(graph, key, tensor.dtype), _narrow_loader(graph, key, tensor)
            value.const_value = lazy(load, traced.dtype, tuple(tensor.shape), name, narrow)


def _loader(graph: Graph, key: str, dtype: torch.dtype) -> Callable[[], NDArray[Any]]:
    def load() -> NDArray[Any]:
        return to_numpy(cast(graph, key, graph.change(key, graph.component.load(key)), dtype))

    return load


def _narrow_loader(graph: Graph, key: str, wanted: Tensor) -> Callable[[], NDArray[Any]] | None:
    """Of a weight that the checkpoint has in half precision and the graph wants in float32."""
    import torch

    stored = HALVES.get(graph.component.dtype(key))
    if stored is None or wanted.dtype != torch.float32:
        return None
    return _loader(graph, key, getattr(torch, stored))


def cast(graph: Graph, key: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in the precision of the graph.

    Raises:
        CheckpointError: it has values that the precision cannot hold, or no numbers at all.
    """
    import torch

    out = weight.to(dtype)
    if not all(part.isfinite().all() for part in torch.split(out.flatten(), CHUNK)):
        raise CheckpointError(
            f"{graph.component.folder} has values in {key!r} that are beyond {graph.precision}; "
            "export in fp32, and if it is, download the checkpoint again"
        )
    return out


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array, bfloat16 too."""
    import ml_dtypes
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.contiguous().numpy()


class WeightFile(Closing):
    """A file of weights in the making; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb")
        self._places: dict[tuple[str, bytes], tuple[int, int]] = {}

    def store(self, model: ir.Model) -> None:
        """Write a graph's weights, and let it refer to them."""
        casts: dict[str, ir.Value] = {}
        for name, value in list(model.graph.initializers.items()):
            tensor = value.const_value
            assert tensor is not None
            if tensor.nbytes <= INLINE_BYTES:
                continue
            narrow = tensor.meta.get(NARROW)
            array = narrow() if narrow else tensor.numpy()
            half = array if narrow else half_exactly(array)
            if half is None:
                value.const_value = self._write(array, name)
            else:
                casts[name] = add_initializer(model, self._write(half, f"{name}{HALF}"))
        _cast(model, casts)

    def _write(self, array: NDArray[Any], name: str) -> ir.ExternalTensor:
        import onnx_ir as ir

        key = (array.dtype.name, hashlib.sha256(_bytes(array)).digest())
        if key not in self._places:
            self._places[key] = self._append(array)
        offset, length = self._places[key]
        return ir.ExternalTensor(
            location=self.path.name,
            offset=offset,
            length=length,
            dtype=ir.DataType.from_numpy(array.dtype),
            shape=ir.Shape(array.shape),
            name=name,
            base_dir=self.path.parent,
        )

    def _append(self, array: NDArray[Any]) -> tuple[int, int]:
        """Write at an offset that can be mapped into memory: a page for large tensors."""
        align = 4096 if array.nbytes >= 1 << 20 else 64
        self._stream.write(b"\0" * (-self._stream.tell() % align))
        offset = self._stream.tell()
        self._stream.write(_bytes(array))
        return offset, array.nbytes

    def close(self) -> None:
        """Close the file, whole or not."""
        self._stream.close()


def half_exactly(array: NDArray[Any]) -> NDArray[Any] | None:
    """The array in fp16, or else bf16, if that holds every value of it exactly."""
    import ml_dtypes

    if array.dtype != np.float32:
        return None
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        if all(_survives(part, dtype) for part in _parts(array)):
            return array.astype(dtype)
    return None


def _survives(part: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(part.astype(dtype).astype(np.float32), part)


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = array.reshape(-1)
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _cast(model: ir.Model, casts: dict[str, ir.Value]) -> None:
    """Replace initializers by fp32 casts of narrower ones."""
    import onnx_ir as ir

    nodes = []
    for name, narrow in casts.items():
        old = model.graph.initializers.pop(name)
        node = ir.node("Cast", [narrow], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
        node.outputs[0].name = name
        replace_uses(old, node.outputs[0])
        nodes.append(node)
    if nodes:
        model.graph.insert_before(model.graph[0], nodes)
