"""Operators as ONNX defines them, where the embedded bundle's graphs do not use them so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mutoscope.engine.planner.graph import BOOL, CODES, INT64, Node, OnnxGraph, Value
from mutoscope.engine.planner.shapes import infer

FLOAT = CODES["float32"]


def tensor(*shape: int) -> Value:
    return Value(shape, FLOAT)


def ints(*numbers: int) -> Value:
    return Value((len(numbers),), INT64, np.array(numbers))


def run(op: str, given: list[Value | None], attributes: dict[str, Any], count: int) -> list[Value]:
    names = tuple("" if value is None else f"in{i}" for i, value in enumerate(given))
    node = Node(op, names, tuple(f"out{i}" for i in range(count)), attributes)
    inputs = {name: value for name, value in zip(names, given, strict=True) if value is not None}
    values = infer(OnnxGraph((node,), {}, node.outputs), inputs)
    return [values[name] for name in node.outputs]


@pytest.mark.parametrize(
    ("op", "given", "attributes", "shapes"),
    [
        (
            "Attention",
            [tensor(2, 5, 12), tensor(2, 7, 6), tensor(2, 7, 8)],
            {"q_num_heads": 4, "kv_num_heads": 2},
            [(2, 5, 16)],
        ),
        ("Resize", [tensor(1, 3, 4, 4), None, None, ints(1, 3, 6, 9)], {}, [(1, 3, 6, 9)]),
        ("ReduceMean", [tensor(2, 3, 4), ints(-1)], {"keepdims": 0}, [(2, 3)]),
        ("ReduceMean", [tensor(2, 3)], {}, [(1, 1)]),
        ("Split", [tensor(10, 2)], {}, [(4, 2), (4, 2), (2, 2)]),
        ("Slice", [tensor(5), ints(-1), ints(-9), ints(0), ints(-2)], {}, [(3,)]),
        ("Slice", [tensor(5, 6), ints(1, -2), ints(99, 99)], {}, [(4, 2)]),
        ("Gemm", [tensor(5, 3), tensor(7, 5)], {"transA": 1, "transB": 1}, [(3, 7)]),
        ("Where", [Value((4, 1), BOOL), tensor(3), tensor(1)], {}, [(4, 3)]),
        ("MatMul", [tensor(2, 1, 3, 4), tensor(5, 4, 6)], {}, [(2, 5, 3, 6)]),
        ("Pad", [tensor(2, 3), ints(0, 1, 2, -1)], {}, [(4, 3)]),
        ("Pad", [tensor(2, 3, 4), ints(1, 2), None, ints(-1)], {}, [(2, 3, 7)]),
        ("Squeeze", [tensor(1, 3, 1)], {}, [(3,)]),
        ("Reshape", [tensor(2, 3, 4), ints(0, -1)], {}, [(2, 12)]),
        ("Gather", [tensor(9, 4), Value((2, 3), INT64)], {}, [(2, 3, 4)]),
        (
            "Conv",
            [tensor(1, 4, 9, 9), tensor(8, 2, 3, 3)],
            {"strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [1, 2], "group": 2},
            [(1, 8, 5, 5)],
        ),
    ],
)
def test_shape(
    op: str, given: list[Value | None], attributes: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    results = run(op, given, attributes, len(shapes))
    assert [value.shape for value in results] == shapes
    assert {value.code for value in results} == {FLOAT}


def test_comparisons_give_booleans() -> None:
    (same,) = run("Equal", [ints(1, 2), ints(1, 3)], {}, 1)
    assert same.code == BOOL
    assert same.content is not None
    assert same.content.tolist() == [True, False]


def test_shapes_are_computed_from_shapes() -> None:
    constant = Value((1,), INT64, np.array([-1]))
    nodes = (
        Node("Shape", ("x",), ("shape",), {"start": 1, "end": 2}),
        Node("Constant", (), ("rest",), {"value": constant}),
        Node("Concat", ("shape", "rest"), ("wanted",), {"axis": 0}),
        Node("Reshape", ("x", "wanted"), ("y",), {}),
    )
    values = infer(OnnxGraph(nodes, {}, ("y",)), {"x": tensor(4, 6, 10)})
    assert values["y"].shape == (6, 40)
