"""What goes into the products of a graph while clips are made: ranges, and some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..engine import EngineOptions
from ..engine.backends.onnxruntime import open_changed
from ..engine.bundle import Bundle
from ..engine.lora import Merged
from ..engine.manifest import TensorSpec
from ..engine.onnx_file import OnnxFile
from ..errors import UserError
from .graph import Linear, Rewriting
from .tensors import Memory
from .trajectory import Call

Array = NDArray[np.float32]
ROWS = 8
"""Of each run that are kept, the first ones and as many at equal distances: a prompt is short, and
what it is padded with is long."""

FLOAT = 1
"""ONNX's code of the type."""


@dataclass(frozen=True)
class Activations:
    """An input of products, over many runs.

    Attributes:
        low: the least value of each channel (in,).
        high: the largest.
        rows: some of its vectors, (rows, in).
    """

    low: Array
    high: Array
    rows: Array

    @property
    def peak(self) -> Array:
        """The largest magnitude of each channel (in,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def divided(self, factors: Array) -> Activations:
        """The same with its channels divided by positive factors (in,)."""
        return Activations(self.low / factors, self.high / factors, self.rows / factors)


def observe(
    bundle: Bundle,
    graph: str,
    linears: Sequence[Linear],
    calls: Sequence[Call],
    threads: int | None,
) -> dict[str, Activations]:
    """Run a graph on what it was given before, and look at the inputs of some products.

    The graph itself computes ranges and rows, so that whole activations are never held.

    Raises:
        UserError: some are no numbers; says which tensor.
    """
    file, memory = OnnxFile(bundle, graph), Memory()
    rewriting = Rewriting(file, memory)
    sources = {linear.source: linear for linear in linears}
    for linear in sources.values():
        _look(rewriting, linear)
    interface = bundle.graph(graph)
    outputs = [
        TensorSpec(name=f"{source}.{kind}", dtype="float32", shape=())
        for source in sources
        for kind in KINDS
    ]
    interface = msgspec.structs.replace(interface, outputs=(*interface.outputs, *outputs))
    content = Merged(rewriting.finish(), memory.values)
    seen: list[Mapping[str, NDArray[np.float32]]] = []
    with open_changed(bundle, graph, EngineOptions(threads), interface, content) as session:
        for call in calls:
            found = session.run(call.feeds)
            seen.append({o.name: np.asarray(found[o.name]) for o in outputs})
    return {source: _together(file.path, source, seen) for source in sources}


KINDS = ("low", "high", "sum", "rows")
"""What the graph gives of each input; a sum is finite only where all numbers are."""


def _look(graph: Rewriting, linear: Linear) -> None:
    """Let the graph give the ranges and some rows of a product's input."""
    source, width = linear.source, linear.shape[0]

    def ints(name: str, *values: int) -> str:
        return graph.tensor(f"observe.{name}", np.array(values, np.int64))

    def node(op: str, inputs: Sequence[str], name: str, **numbers: int) -> str:
        graph.node(linear, op, inputs, [f"{source}.{name}"], domain="", **numbers)
        return f"{source}.{name}"

    single = node("Cast", [source], "float", to=FLOAT)
    flat = node("Reshape", [single, ints(f"width{width}", -1, width)], "flat")
    first = ints("first", 0)
    for op, name in (("ReduceMin", "low"), ("ReduceMax", "high"), ("ReduceSum", "sum")):
        node(op, [flat, first], name, keepdims=0)
    count = node("Shape", [flat], "count", start=0, end=1)
    apart = node("Div", [count, ints("rows", ROWS)], "apart")
    step = node("Max", [apart, ints("one", 1)], "step")
    some = node("Slice", [flat, first, count, first, step], "some")
    head = node("Slice", [flat, first, ints("rows", ROWS), first], "head")
    node("Concat", [head, some], "rows", axis=0)
    for kind in KINDS:
        graph.output(f"{source}.{kind}")


def _together(
    path: Path, source: str, seen: Sequence[Mapping[str, NDArray[np.float32]]]
) -> Activations:
    low, high, total, rows = ([found[f"{source}.{kind}"] for found in seen] for kind in KINDS)
    if not np.isfinite(total).all():
        raise UserError(
            f"{path}: the tensor {source!r} has values that are NaN or infinite while a clip is "
            "made; it cannot be quantized, see whether the bundle makes good clips"
        )
    return Activations(np.min(low, axis=0), np.max(high, axis=0), np.concatenate(rows))
