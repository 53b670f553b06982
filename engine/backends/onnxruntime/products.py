"""Products with weights of 4 and 8 bits by our own operator, in bf16; and those left beside int8.

ONNX Runtime's `MatMulNBits` takes twice as long as a product in fp32 when it is to be as exact, and
rounds its input to 8 bits else. `BlockedMatMulNBits` (`native/custom_op.cpp`) reads the same
tensors and decodes them as it multiplies; rounding its input to bf16 costs about what the weights
have lost, or less. It takes matrices of bf16 too: those that a denoiser in int8 has left in fp32.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...floats import to_bf16
from ...onnx_file import OnnxFile, add_initializer
from .native_operators import DOMAIN
from .wiring import Wiring, number

OPERATOR, REPLACED = "BlockedMatMulNBits", "MatMulNBits"
BLOCK = 32
"""Weights that share a scale."""
GIVEN = ("K", "N", "bits", "block_size")
BITS = 16
IN_BLOCK = re.compile(r"\bblocks\.[0-9]+\.")
"""In the name of a weight of one of a transformer's blocks."""

LARGE = 1 << 20
"""Elements of a matrix; the product with a smaller one is done soon enough."""


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


def multiply_rest(model: Any, file: OnnxFile) -> dict[str, str]:
    """Put it into the place of blocks' products with large matrices that are in fp32 still.

    Args:
        model: a denoiser's, or a part of it; changed.
        file: that has its weights.

    Returns:
        For each initializer that is to have what `pack` makes, the one that it is made of.
    """
    wiring = Wiring(model)
    packed: dict[str, str] = {}
    there = {tensor.name for tensor in model.graph.initializer}
    for node in wiring.nodes:
        stored = wiring.stored(node)
        shape = file.shapes.get(stored, ())
        if node.op_type != "MatMul" or stored not in there or not _is_rest(stored, shape):
            continue
        name, (channels, outputs) = f"{stored}.bf16", shape
        if name not in packed:
            form = outputs, channels // BLOCK, BLOCK * BITS // 8
            add_initializer(model, name, form, np.dtype(np.uint8))
            packed[name] = stored
        numbers = {"K": channels, "N": outputs, "bits": BITS, "block_size": BLOCK}
        replaced = wiring.new(OPERATOR, [node.input[0], name], node.output[0], DOMAIN, **numbers)
        replaced.output.append(f"{node.output[0]}.workspace")
        wiring.replace(node, [replaced])
    wiring.finish()
    return packed


def pack(matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A matrix (in, out) as the operator takes it: (out, blocks, bytes), in bf16."""
    raw = to_bf16(np.ascontiguousarray(matrix.T)).view(np.uint8)
    return raw.reshape(len(raw), -1, BLOCK * BITS // 8)


def _is_rest(name: str, shape: tuple[int, ...]) -> bool:
    """Timesteps, patches and the output, outside of blocks, are little work: they stay in fp32."""
    large = len(shape) == 2 and shape[0] % BLOCK == 0 and math.prod(shape) >= LARGE
    return large and IN_BLOCK.search(name) is not None


def _fits(node: Any) -> bool:
    return (
        node.op_type == REPLACED
        and len(node.input) == 3
        and number(node, "block_size") == BLOCK
        and number(node, "bits") in {4, 8}
        and number(node, "K") % BLOCK == 0
    )
