"""The formats that a product with a constant matrix can be computed in, and the nodes that do it.

Source of the operators: ONNX Runtime, `docs/ContribOperators.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.onnx_file import CODES, MICROSOFT
from ..engine.weight_formats import BLOCK
from .graph import Linear, Rewriting, read_weight
from .grid import FP8, INT8, Grid
from .weights import in_blocks

Array = NDArray[np.float32]
SMALLEST_HALF = 2.0**-14
"""The least of fp16's normal numbers."""


@dataclass(frozen=True)
class Input:
    """What is known of the input of products.

    Attributes:
        factors: what its channels are divided by (in,), and the weights multiplied; or nothing.
        peak: the largest magnitude, after that.
    """

    factors: Array | None
    peak: float


Format = Callable[[Rewriting, Linear, Input | None], None]
"""Puts a product into a graph; `None` where its input was not looked at."""

ACCURATE = 1
"""MatMulNBits' accuracy level: computed in float32."""


def dynamic_int8(graph: Rewriting, linear: Linear, given: Input | None) -> None:
    """Weights in 8 bits, a scale a channel; activations in 8 bits, scaled anew at each run."""
    source, weight = _smoothed(graph, linear, given)
    scale = INT8.scales(weight)
    inputs = [
        source,
        graph.tensor(f"{linear.result}.weight.int8", INT8.store(weight, scale)),
        graph.tensor(f"{linear.result}.weight.scale", scale),
        "",
        linear.bias or "",
    ]
    op = "DynamicQuantizeMatMul"
    graph.node(linear, op, inputs, [linear.result], domain=MICROSOFT)
    graph.drop(linear)


def blockwise(bits: int, graph: Rewriting, linear: Linear, given: Input | None) -> None:
    """Weights alone, in 8 or 4 bits, a scale for every `BLOCK` of them."""
    stored, scale = in_blocks(read_weight(graph.file, linear), bits)
    inputs = [
        _single(graph, linear, linear.source) if linear.half else linear.source,
        graph.tensor(f"{linear.result}.weight.int{bits}", stored),
        graph.tensor(f"{linear.result}.weight.scale", scale),
    ]
    rows, columns = linear.shape
    numbers = {"K": rows, "N": columns, "bits": bits, "block_size": BLOCK}
    numbers["accuracy_level"] = ACCURATE
    if linear.half:
        _narrowed(graph, linear, "MatMulNBits", inputs, MICROSOFT, **numbers)
    else:
        _product(graph, linear, "MatMulNBits", inputs, MICROSOFT, **numbers)


def static(grid: Grid, graph: Rewriting, linear: Linear, given: Input | None) -> None:
    """Weights and activations in 8 bits, symmetric, in scales that are settled, for TensorRT.

    Pairs of QuantizeLinear and DequantizeLinear say so, and the product between them stays. With a
    scale a channel it is in fp32 in fp16 graphs too: TensorRT-RTX gives the sums of stored numbers
    in the product's type, where fp16 would overflow, and multiplies them by the scales afterwards.
    """
    assert given is not None
    source, weight = _smoothed(graph, linear, given)
    narrowed = linear.half and grid.by_channel
    dtype = np.float16 if linear.half and not narrowed else np.float32
    if narrowed:
        source = _single(graph, linear, source)
    step = _scale(grid.scale(given.peak), dtype)
    inputs = [
        _rounded(grid, graph, linear, source, step),
        _decoded(grid, graph, linear, weight, _scale(grid.scales(weight), dtype)),
    ]
    if narrowed:
        _narrowed(graph, linear, "MatMul", inputs)
    else:
        _product(graph, linear, "MatMul", inputs)


def _rounded(grid: Grid, graph: Rewriting, linear: Linear, source: str, step: NDArray[Any]) -> str:
    """An input, stored and decoded; products may share it."""
    stored, rounded = f"{source}.{grid.name}", f"{source}.rounded"
    zero = graph.tensor("symmetric", np.zeros((), grid.dtype()))
    scale = graph.tensor(f"{source}.step", step)
    graph.node(linear, "QuantizeLinear", [source, scale, zero], [stored])
    graph.node(linear, "DequantizeLinear", [stored, scale, zero], [rounded])
    return rounded


def _decoded(
    grid: Grid, graph: Rewriting, linear: Linear, weight: Array, scale: NDArray[Any]
) -> str:
    """A matrix, decoded."""
    matrix = f"{linear.result}.weight"
    constant = [
        graph.tensor(f"{matrix}.{grid.name}", grid.store(weight, scale.astype(np.float32))),
        graph.tensor(f"{matrix}.scale", scale),
    ]
    graph.node(linear, "DequantizeLinear", constant, [matrix], axis=1)
    return matrix


def _single(graph: Rewriting, linear: Linear, source: str) -> str:
    """An input in fp32; products may share it."""
    single = f"{source}.single"
    graph.node(linear, "Cast", [source], [single], to=CODES["float32"])
    return single


def _narrowed(
    graph: Rewriting, linear: Linear, op: str, inputs: list[str], domain: str = "", **numbers: int
) -> None:
    """A product in fp32 that becomes fp16."""
    sums = f"{linear.result}.sums"
    graph.node(linear, op, inputs, [sums], domain=domain, **numbers)
    _product(graph, linear, "Cast", [sums], to=CODES["float16"])


def _product(
    graph: Rewriting, linear: Linear, op: str, inputs: list[str], domain: str = "", **numbers: int
) -> None:
    """What gives the product, and the sum after it, in the place of the old ones."""
    product = f"{linear.result}.product" if linear.bias else linear.result
    graph.node(linear, op, inputs, [product], domain=domain, **numbers)
    if linear.bias:
        graph.node(linear, "Add", [product, linear.bias], [linear.result])
    graph.drop(linear)


def _scale(scale: Any, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Scales in the type that the graph computes in, none of them lost in it."""
    least = SMALLEST_HALF if dtype is np.float16 else np.finfo(np.float32).tiny
    return np.asarray(np.maximum(scale, np.float32(least)), dtype)


def _smoothed(graph: Rewriting, linear: Linear, given: Input | None) -> tuple[str, Array]:
    """The input divided by its factors, and the matrix times them: the same product."""
    weight = read_weight(graph.file, linear)
    if given is None or given.factors is None:
        return linear.source, weight
    smoothed = f"{linear.source}.smoothed"
    dtype = np.float16 if linear.half else np.float32
    inverse = graph.tensor(f"{linear.source}.smoothing", (1 / given.factors).astype(dtype))
    graph.node(linear, "Mul", [linear.source, inverse], [smoothed])
    return smoothed, weight * given.factors[:, None]


FLOAT = "float"
"""What is said of a product that stays as it is."""

FLOAT8 = "fp8-static"
SETTLED: Mapping[str, Grid] = {"int8-static": INT8, FLOAT8: FP8}
"""Formats whose activations have scales that are settled before a run."""

FORMATS: Mapping[str, Format] = {
    "int8": dynamic_int8,
    **{name: partial(static, grid) for name, grid in SETTLED.items()},
    "int8-weights": partial(blockwise, 8),
    "int4-weights": partial(blockwise, 4),
}
