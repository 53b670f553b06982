"""Attention by our own operator, in bf16, where products are in int8 already.

`BlockedAttention` (`native/custom_op.cpp`) takes queries, keys and values with heads side by side
and a bias of the keys, and holds no scores. Its error is .3 % of the output; a bundle that was not
quantized is not for it.
"""

from __future__ import annotations

from typing import Any

from ...manifest import DenoiserSpec
from .native_operators import DOMAIN
from .padding import BIAS, MASK
from .wiring import Wiring, number

OPERATOR = "BlockedAttention"
INT8 = "DynamicQuantizeMatMul"
FLOAT16 = 10
"""The code of that type in ONNX."""
CHANNELS = 16
"""Of a head there must be a multiple of so many."""


def fits_blocks(model: Any, denoiser: DenoiserSpec) -> bool:
    """Whether a denoiser's attention may be computed so: all in fp32, but for int8 products.

    Args:
        model: of its ONNX file.
        denoiser: what its bundle says of it.
    """
    width, nodes = denoiser.hidden_size // denoiser.heads, model.graph.node
    half = any(node.op_type == "Cast" and number(node, "to") == FLOAT16 for node in nodes)
    return width % CHANNELS == 0 and not half and any(node.op_type == INT8 for node in nodes)


def attend_in_blocks(step: Any) -> None:
    """Put the operator into the place of ONNX Runtime's, where heads lie side by side.

    Args:
        step: the part of a denoiser that runs in each step; changed.
    """
    wiring = Wiring(step)
    for node in wiring.nodes:
        heads = int(number(node, "num_heads") or number(node, "q_num_heads"))
        if heads and node.op_type in {"Attention", "MultiHeadAttention"}:
            inputs = [BIAS if name == MASK else name for name in node.input]
            made = wiring.new(OPERATOR, inputs, node.output[0], DOMAIN, num_heads=heads)
            made.output.append(f"{node.output[0]}.workspace")
            made.attribute.extend(a for a in node.attribute if a.name == "scale")
            wiring.replace(node, [made])
    wiring.finish()
