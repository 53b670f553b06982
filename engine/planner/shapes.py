"""The shape of every tensor of a graph, for inputs of given shapes.

Source: ONNX, `docs/Operators.md`. Exported graphs compute shapes from shapes (`Shape`, `Concat`,
`Reshape`), so small integer tensors are computed, and of all others only the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MutoscopeError
from . import layout
from .graph import BOOL, READABLE, Node, OnnxGraph, Value
from .known import MAX_COMPUTED, Inputs, content, ints, need


def infer(graph: OnnxGraph, inputs: Mapping[str, Value]) -> dict[str, Value]:
    """Every tensor of a graph by name, its inputs and weights too.

    Raises:
        MutoscopeError: an operator that is not known here, or one that cannot take its inputs.
    """
    values = {**graph.initializers, **inputs}
    for node in graph.nodes:
        if node.op not in RULES:
            raise MutoscopeError(f"the operator {node.op} is not known to the planner")
        given = [values[name] if name else None for name in node.inputs]
        try:
            results = RULES[node.op](node, given)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise MutoscopeError(f"the planner cannot follow {node.op}: {error}") from error
        values.update(zip(node.outputs, results, strict=False))
    return values


def _broadcast(node: Node, given: Inputs) -> list[Value]:
    values = [need(value) for value in given]
    shape = np.broadcast_shapes(*(value.shape for value in values))
    code = BOOL if node.op in COMPARISONS else values[-1].code
    return [Value(shape, code, _computed(node, values))]


def _computed(node: Node, values: Sequence[Value]) -> NDArray[Any] | None:
    """The elements of a result, where those of the inputs are known and few."""
    contents = [value.content for value in values if value.content is not None]
    function = COMPUTED.get(node.op)
    if function is None or len(contents) < len(values):
        return None
    if max(content.size for content in contents) > MAX_COMPUTED:
        return None
    return np.asarray(function(*contents))


def _same(node: Node, given: Inputs) -> list[Value]:
    """The first input's shape; normalisations have more results, which nothing here uses."""
    return [replace(need(given[0]), content=None)]


def _cast(node: Node, given: Inputs) -> list[Value]:
    source, code = need(given[0]), int(node.attributes["to"])
    if source.content is None or code not in READABLE:
        return [Value(source.shape, code)]
    return [Value(source.shape, code, source.content.astype(READABLE[code]))]


def _quantize(node: Node, given: Inputs) -> list[Value]:
    return [Value(need(given[0]).shape, need(given[2]).code)]


def _dequantize(node: Node, given: Inputs) -> list[Value]:
    return [Value(need(given[0]).shape, need(given[1]).code)]


def _reduce(node: Node, given: Inputs) -> list[Value]:
    source, rank = need(given[0]), len(need(given[0]).shape)
    axes = {axis % rank for axis in (ints(given[1]) if len(given) > 1 else range(rank))}
    sizes = [1 if i in axes else size for i, size in enumerate(source.shape)]
    if not node.attributes.get("keepdims", 1):
        sizes = [size for i, size in enumerate(source.shape) if i not in axes]
    return [Value(tuple(sizes), source.code)]


def _matmul(node: Node, given: Inputs) -> list[Value]:
    left, right = need(given[0]), need(given[1])
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    return [Value((*batch, left.shape[-2], right.shape[-1]), left.code)]


def _matmul_in_blocks(node: Node, given: Inputs) -> list[Value]:
    """ONNX Runtime's MatMulNBits and our own: the matrix is packed, its width is in the node."""
    left = need(given[0])
    return [Value((*left.shape[:-1], node.attributes["N"]), left.code)]


def _gemm(node: Node, given: Inputs) -> list[Value]:
    left, right = need(given[0]), need(given[1])
    rows = left.shape[1 if node.attributes.get("transA") else 0]
    columns = right.shape[0 if node.attributes.get("transB") else 1]
    return [Value((rows, columns), left.code)]


def _conv(node: Node, given: Inputs) -> list[Value]:
    source, weight = need(given[0]), need(given[1])
    kernel = weight.shape[2:]
    ones = [1] * len(kernel)
    strides = node.attributes.get("strides", ones)
    dilations = node.attributes.get("dilations", ones)
    pads = node.attributes.get("pads", [0] * 2 * len(kernel))
    sizes = [
        (size + pads[i] + pads[i + len(kernel)] - dilations[i] * (kernel[i] - 1) - 1) // strides[i]
        + 1
        for i, size in enumerate(source.shape[2:])
    ]
    return [Value((source.shape[0], weight.shape[0], *sizes), source.code)]


def _conv_in_blocks(node: Node, given: Inputs) -> list[Value]:
    """Our own: (1, channels, frames, …) after earlier frames, or (frames, channels, …)."""
    source, weight, bias = (need(value) for value in given[:3])
    *first, height, width = source.shape
    scale, (outputs,) = node.attributes["scale"], bias.shape
    size = (height * scale, width * scale)
    if len(first) == 2:
        return [Value((first[0], outputs, *size), source.code)]
    before = need(given[3]).shape[2] if len(given) > 3 and given[3] else 0
    frames = first[2] + before - weight.shape[1] + 1
    kept = (*first[:2], node.attributes["kept"], height, width)
    return [Value((first[0], outputs, frames, *size), source.code), Value(kept, source.code)]


def _resize(node: Node, given: Inputs) -> list[Value]:
    source = need(given[0])
    if len(given) > 3 and given[3] is not None:
        return [Value(tuple(ints(given[3])), source.code)]
    scales = content(given[2])
    sizes = (math.floor(n * s) for n, s in zip_longest(source.shape, scales.tolist()))
    return [Value(tuple(sizes), source.code)]


def _attention(node: Node, given: Inputs) -> list[Value]:
    """(batch, heads, tokens, channels), or (batch, tokens, heads x channels) with `q_num_heads`."""
    query, value = need(given[0]), need(given[2])
    if len(query.shape) == 4:
        return [Value((*query.shape[:3], value.shape[3]), query.code)]
    heads, groups = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
    return [Value((*query.shape[:2], value.shape[2] // groups * heads), query.code)]


def _attention_in_blocks(node: Node, given: Inputs) -> list[Value]:
    """ONNX Runtime's MultiHeadAttention and our own: (batch, tokens, heads x channels)."""
    query, value = need(given[0]), need(given[2])
    return [Value((*query.shape[:2], value.shape[2]), query.code)]


Rule = Callable[[Node, Inputs], list[Value]]
COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda left, right: left // right if left.dtype.kind == "i" else left / right,
    "Equal": np.equal,
    "Where": np.where,
}
COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not"}
ELEMENTWISE = {*COMPUTED, *COMPARISONS, "Pow", "Max", "Min", "Mod"}
SAME = {
    "Abs", "Clip", "Cos", "Erf", "Exp", "Gelu", "Identity", "LayerNormalization", "Log", "Neg",
    "RMSNormalization", "Reciprocal", "Relu", "RmsNormSilu", "RotaryEmbedding", "Sigmoid", "Sin",
    "Softmax", "Sqrt", "Tanh",
}  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _broadcast),
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "Attention": _attention,
    "BlockedAttention": _attention_in_blocks,
    "BlockedConvolution": _conv_in_blocks,
    "BlockedMatMulNBits": _matmul_in_blocks,
    "Cast": _cast,
    "Concat": layout.concat,
    "Constant": layout.constant,
    "ConstantOfShape": layout.constant_of_shape,
    "Conv": _conv,
    "Expand": layout.expand,
    "Gather": layout.gather,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeMatMul": _matmul,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulNBits": _matmul_in_blocks,
    "MultiHeadAttention": _attention_in_blocks,
    "Pad": layout.pad,
    "QuantizeLinear": _quantize,
    "Range": layout.range_,
    "Reshape": layout.reshape,
    "Resize": _resize,
    "Shape": layout.shape,
    "Slice": layout.slice_,
    "Split": layout.split,
    "Squeeze": layout.squeeze,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
}
