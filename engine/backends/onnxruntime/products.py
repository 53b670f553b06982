"""Products with weights of 4 and 8 bits by our own operator, in bf16.

ONNX Runtime's `MatMulNBits` takes twice as long as a product in fp32 when it is to be as exact, and
decodes to 8 bits else. `BlockedMatMulNBits` (`native/custom_op.cpp`) reads the same tensors, and
decodes them as it multiplies; what rounding its input to bf16 costs is less than the weights have
lost.
"""

from __future__ import annotations

from typing import Any

from .native_operators import DOMAIN
from .wiring import Wiring, number

OPERATOR, REPLACED = "BlockedMatMulNBits", "MatMulNBits"
BLOCK = 32
"""Weights that share a scale."""
GIVEN = ("K", "N", "bits", "block_size")


def fits_products(model: Any) -> bool:
    """Whether a graph has such products."""
    return any(_fits(node) for node in model.graph.node)


def multiply_in_bf16(model: Any) -> None:
    """Put the operator into the place of ONNX Runtime's; the model is changed."""
    wiring = Wiring(model)
    for node in wiring.nodes:
        if _fits(node):
            made = wiring.new(OPERATOR, node.input, node.output[0], DOMAIN)
            made.output.append(f"{node.output[0]}.workspace")
            made.attribute.extend(a for a in node.attribute if a.name in GIVEN)
            wiring.replace(node, [made])
    wiring.finish()


def _fits(node: Any) -> bool:
    return (
        node.op_type == REPLACED
        and len(node.input) == 3
        and number(node, "block_size") == BLOCK
        and number(node, "bits") in {4, 8}
        and number(node, "K") % BLOCK == 0
    )
