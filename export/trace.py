"""A module → an ONNX graph, traced without weights, so that a model of any size fits in memory.

`torch.export` runs the module on tensors that have shapes only. The weights are streamed into the
bundle afterwards (`weights.py`), straight from the checkpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..engine.manifest import TensorSpec
from .graph import Graph, split_axis

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

OPSET = 23
"""The first opset with `Attention`, which stands for a whole scaled dot-product attention."""

SAMPLE_SIZE = 3
"""Sample axes have a few steps: 0 and 1 would be taken for constants."""


def trace(graph: Graph) -> ir.Model:
    """Trace a graph's module.

    The initializers bear the names of the module's parameters and buffers. Those of the checkpoint
    have no values yet.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    module = graph.build(lambda: mode).eval().requires_grad_(False)
    arguments = _samples(graph, mode)
    axes = inspect.signature(module.forward).bind(*_dynamic_shapes(graph)).arguments
    with torch.no_grad():
        program = torch.export.export(module, arguments, dynamic_shapes=dict(axes), strict=False)
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False
        )
    assert exported is not None
    return exported.model


def _samples(graph: Graph, mode: FakeTensorMode) -> tuple[torch.Tensor, ...]:
    import torch

    sizes = _sample_sizes(graph)
    with mode:
        return tuple(
            torch.zeros(
                [axis if isinstance(axis, int) else _size(axis, sizes) for axis in spec.shape],
                dtype=getattr(torch, spec.dtype),
            )
            for spec in graph.inputs
        )


def _sample_sizes(graph: Graph) -> dict[str, int]:
    """A length for each named axis, all different, so that none is taken for another."""
    names = dict.fromkeys(split_axis(a)[1] for a in _named_axes(graph.inputs))
    return {name: (SAMPLE_SIZE + i) * graph.steps.get(name, 1) for i, name in enumerate(names)}


def _size(axis: str, sizes: dict[str, int]) -> int:
    factor, name = split_axis(axis)
    return factor * sizes[name]


def _named_axes(specs: tuple[TensorSpec, ...]) -> Iterator[str]:
    for spec in specs:
        yield from (axis for axis in spec.shape if isinstance(axis, str))


def _dynamic_shapes(graph: Graph) -> tuple[dict[int, Any], ...]:
    from torch.export import Dim

    dims = {
        name: Dim(name, max=graph.largest[name] // graph.steps.get(name, 1))
        if name in graph.largest
        else Dim(name)
        for name in _sample_sizes(graph)
    }

    def dim(axis: str) -> Any:
        factor, name = split_axis(axis)
        factor *= graph.steps.get(name, 1)
        return dims[name] if factor == 1 else factor * dims[name]

    return tuple(
        {i: dim(axis) for i, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in graph.inputs
    )
