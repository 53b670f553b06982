"""Weights as they are held, and an estimate of what they would take in another precision."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .graph import BFLOAT16, BYTES, FLOAT, FLOAT16, Node, OnnxGraph, Value

HALVES = {FLOAT16, BFLOAT16}
FLOATS = {FLOAT, *HALVES}


@dataclass(frozen=True)
class Weights:
    """What is known of a graph's weights.

    Attributes:
        products: elements of the matrices that something is multiplied by; these are what
            quantization stores in fewer bits.
        product_bytes: what they take in their own precision.
        largest: bytes of the largest weight, in its own precision.
        widened: bytes of the largest one that is stored in half precision. A CPU computes in fp32:
            while the graph is opened, the pages of its file lie beside what becomes of it.
    """

    products: int = 0
    product_bytes: int = 0
    largest: int = 0
    widened: int = 0


def held(graph: OnnxGraph, decoded: Collection[int] = ()) -> tuple[list[Node], set[str]]:
    """The nodes that run, and the names of the weights that they take.

    What comes of weights alone is computed once, when a backend opens the graph: it is a weight.
    Quantized weights stay as they are, but for those of the types `decoded`.
    """
    constant, folded = set(graph.initializers), set[str]()
    for node in graph.nodes:
        known = node.inputs and all(name in constant for name in node.inputs if name)
        if known and (node.op != "DequantizeLinear" or _code(graph, node) in decoded):
            constant.update(node.outputs)
            folded.update(node.outputs)
    nodes = [node for node in graph.nodes if node.outputs[0] not in folded]
    return nodes, {name for node in nodes for name in node.inputs} & constant


def _code(graph: OnnxGraph, node: Node) -> int | None:
    """Of the type of a weight that a node takes first."""
    weight = graph.initializers.get(node.inputs[0])
    return weight.code if weight else None


def count(graph: OnnxGraph, values: Mapping[str, Value]) -> Weights:
    """Count the weights of a graph whose tensors are of these shapes."""
    nodes, names = held(graph)
    sizes = {name: values[name].elements * BYTES[values[name].code] for name in names}
    matrices = {
        node.inputs[1] for node in nodes if node.op in {"MatMul", "Gemm"} and len(node.inputs) > 1
    }
    products = [
        name
        for name in matrices & names
        if values[name].code in FLOATS and len(values[name].shape) == 2
    ]
    halves = [value for value in graph.initializers.values() if value.code in HALVES]
    return Weights(
        products=sum(values[name].elements for name in products),
        product_bytes=math.ceil(sum(sizes[name] for name in products)),
        largest=math.ceil(max((sizes[name] for name in names), default=0)),
        widened=2 * max((value.elements for value in halves), default=0),
    )
