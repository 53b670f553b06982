"""The formats that a product with a constant matrix can be computed in, and the nodes that do it.

Source of the operators: ONNX Runtime, `docs/ContribOperators.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .graph import MICROSOFT, Linear, Rewriting, read_weight
from .weights import BLOCK, in_blocks, per_channel

Array = NDArray[np.float32]
Format = Callable[[Rewriting, Linear, Array | None], None]
"""Puts a product into a graph; is given the factors (in,) that its input is smoothed by."""

ACCURATE = 1
"""MatMulNBits' accuracy level: computed in float32."""


def dynamic_int8(graph: Rewriting, linear: Linear, factors: Array | None) -> None:
    """Weights in 8 bits, a scale a channel; activations in 8 bits, scaled anew at each run."""
    source, weight = _smoothed(graph, linear, factors)
    stored, scale = per_channel(weight)
    inputs = [
        source,
        graph.tensor(f"{linear.result}.int8", stored),
        graph.tensor(f"{linear.result}.scale", scale),
        "",
        linear.bias or "",
    ]
    op = "DynamicQuantizeMatMul"
    graph.node(linear, op, inputs, [linear.result], domain=MICROSOFT)
    graph.drop(linear)


def blockwise(bits: int, graph: Rewriting, linear: Linear, factors: Array | None) -> None:
    """Weights alone, in 8 or 4 bits, a scale for every `BLOCK` of them."""
    stored, scale = in_blocks(read_weight(graph.file, linear), bits)
    inputs = [
        linear.source,
        graph.tensor(f"{linear.result}.int{bits}", stored),
        graph.tensor(f"{linear.result}.scale", scale),
    ]
    rows, columns = linear.shape
    numbers = {"K": rows, "N": columns, "bits": bits, "block_size": BLOCK}
    product = f"{linear.result}.product" if linear.bias else linear.result
    op = "MatMulNBits"
    graph.node(linear, op, inputs, [product], domain=MICROSOFT, accuracy_level=ACCURATE, **numbers)
    if linear.bias:
        graph.node(linear, "Add", [product, linear.bias], [linear.result])
    graph.drop(linear)


def _smoothed(graph: Rewriting, linear: Linear, factors: Array | None) -> tuple[str, Array]:
    """The input divided by the factors, and the matrix times them: the same product."""
    weight = read_weight(graph.file, linear)
    if factors is None:
        return linear.source, weight
    smoothed = f"{linear.source}.smoothed"
    inverse = graph.tensor(f"{linear.source}.smoothing", 1 / factors)
    graph.node(linear, "Mul", [linear.source, inverse], [smoothed])
    return smoothed, weight * factors[:, None]


FLOAT = "float"
"""What is said of a product that stays as it is."""

FORMATS: Mapping[str, Format] = {
    "int8": dynamic_int8,
    "int8-weights": partial(blockwise, 8),
    "int4-weights": partial(blockwise, 4),
}
BYTES = {"int8": 1.0, "int8-weights": 1 + 4 / BLOCK, "int4-weights": 0.5 + 4 / BLOCK}
"""Of a weight, with its share of the scales."""
