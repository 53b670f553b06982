"""What a graph would take in another precision: estimates, from the number of its weights."""

from __future__ import annotations

from dataclasses import replace

from ..manifest import DENOISERS, TEXT_ENCODER
from .needs import Needs
from .peak import Peak

SCALE = 4 / 32
"""Bytes of a weight's share in the scale of its block, where weights alone are quantized."""

DENOISER = {"int8": 1.0, "int4": 0.5 + SCALE}
TEXT = 1 + SCALE
"""Bytes of a weight of a product, as `mutoscope quantize` stores it; the text encoder's for a CPU
are in int8 unless something else is asked for."""

HELD_ON_CPU = 4
"""Bytes of such a weight as ONNX Runtime holds it on the CPU when it is not quantized."""


def in_precision(needs: Needs, name: str, precision: str) -> Needs:
    """An estimate for a graph of a bundle that is not quantized.

    fp16, of a graph in fp32, is half of all on a GPU and the same on the CPU. int8 and int4 change
    the weights of products, of all of them, though sensitive ones may stay as they are: of
    denoisers, and of the text encoder on the CPU, in int8. What is computed keeps its precision.

    Args:
        needs: of the graph as it is.
        name: of the graph.
        precision: `fp16`, `int8` or `int4`.
    """
    gpu, cpu, weights = needs.gpu, needs.cpu, needs.weights
    if precision == "fp16":
        return replace(needs, gpu=Peak(gpu.weights // 2, gpu.live // 2, gpu.arena))
    if name in DENOISERS:
        stored = int(weights.products * DENOISER[precision])
        gpu = replace(gpu, weights=gpu.weights - weights.product_bytes + stored)
    elif name == TEXT_ENCODER:
        stored = int(weights.products * TEXT)
    else:
        return needs
    cpu = replace(cpu, weights=cpu.weights - HELD_ON_CPU * weights.products + stored)
    return replace(needs, gpu=gpu, cpu=cpu)
