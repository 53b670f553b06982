"""What a graph would take in another precision: estimates, from the number of its weights."""

from __future__ import annotations

from dataclasses import replace

from ..manifest import DENOISERS, TEXT_ENCODER
from ..weight_formats import BYTES
from .needs import Needs
from .peak import Peak

FORMATS = {
    **{name: {"int8": "int8", "int4": "int4-weights"} for name in DENOISERS},
    TEXT_ENCODER: {"int8": "int8-weights", "int4": "int4-weights"},
}
"""What `mutoscope quantize` makes of a graph's products, by the precision that is asked for."""

HELD_ON_CPU = 4
"""Bytes of such a weight as ONNX Runtime holds it on the CPU when it is not quantized."""


def in_precision(needs: Needs, name: str, precision: str) -> Needs:
    """An estimate for a graph of a bundle that is not quantized.

    fp16, of a graph in fp32, is half of all on a GPU and the same on the CPU. int8 and int4 change
    the weights of products, of all of them, though sensitive ones may stay as they are: of
    denoisers, and of the text encoder on the CPU. What is computed keeps its precision.

    Args:
        needs: of the graph as it is.
        name: of the graph.
        precision: `fp16`, `int8` or `int4`.
    """
    gpu, cpu, weights = needs.gpu, needs.cpu, needs.weights
    if precision == "fp16":
        return replace(needs, gpu=Peak(gpu.weights // 2, gpu.live // 2, gpu.arena))
    if name not in FORMATS:
        return needs
    stored = int(weights.products * BYTES[FORMATS[name][precision]])
    if name in DENOISERS:
        gpu = replace(gpu, weights=gpu.weights - weights.product_bytes + stored)
    cpu = replace(cpu, weights=cpu.weights - HELD_ON_CPU * weights.products + stored)
    return replace(needs, gpu=gpu, cpu=cpu)
