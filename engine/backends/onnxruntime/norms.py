"""Norms of a wide VAE by our own operator: six nodes, with as many clips between them, are one.

`RmsNormSilu` (`native/custom_op.cpp`) divides each pixel by the norm of its channels, multiplies
these by their weights, and takes SiLU of that, in fp32.
"""

from __future__ import annotations

from typing import Any

from ...onnx_file import OnnxFile
from .native_operators import DOMAIN
from .wiring import Wiring

OPERATOR = "RmsNormSilu"
CHANNELS = 1
"""The axis."""


def normalize_at_once(file: OnnxFile) -> None:
    """Put the operator into the place of ONNX Runtime's nodes.

    Args:
        file: of a VAE's graph; its model is changed.
    """
    wiring = Wiring(file.model)
    for node in wiring.nodes:
        inputs = _norm(file, wiring, node)
        if inputs is not None:
            wiring.replace(node, [wiring.new(OPERATOR, inputs, node.output[0], DOMAIN)])
    wiring.finish()


def _norm(file: OnnxFile, wiring: Wiring, silu: Any) -> list[str] | None:
    """What a product takes in the end, if it is SiLU of a norm: pixels, weights, the least norm."""
    if silu.op_type != "Mul":
        return None
    scaled, gate = silu.input
    weighted, sigmoid = wiring.giver(scaled, "Mul"), wiring.giver(gate, "Sigmoid")
    if weighted is None or sigmoid is None or sigmoid.input[0] != scaled:
        return None
    divided, weights = wiring.giver(weighted.input[0], "Div"), weighted.input[1]
    clamped = divided and wiring.giver(divided.input[1], "Clip")
    norm = clamped and wiring.giver(clamped.input[0], "ReduceL2")
    if norm is None or [norm.input[0], len(clamped.input)] != [divided.input[0], 2]:
        return None
    shape = file.shapes.get(weights, ())
    if len(shape) < 2 or any(size > 1 for size in shape[1:]):
        return None
    if len(norm.input) < 2 or file.numbers(norm.input[1]) != [CHANNELS]:
        return None
    return [divided.input[0], weights, clamped.input[1]]
