"""Attention with scores in int8 in the place of `Attention` nodes: which of them, and by what name.

What computes it is a backend's: a plugin of TensorRT, an operator of ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

from ..errors import BundleError, UserError
from ..kernels.attention_ops import HEAD_SIZES
from .bundle import Bundle
from .manifest import DENOISERS
from .onnx_file import use_domain

OPERATOR, DOMAIN = "Int8Attention", "mutoscope"

SCALE = "scale"
"""The one attribute, a float; 0 for 1 / sqrt(size)."""

FLOAT_ATTRIBUTE = 1
"""By the code that ONNX has for it."""


def takes_part(bundle: Bundle, name: str) -> bool:
    """Whether a graph's attention is to be replaced: denoisers', where all tokens meet.

    Raises:
        UserError: the kernels have no heads of the denoiser's size.
    """
    if name not in DENOISERS:
        return False
    size = bundle.manifest.denoiser.hidden_size // bundle.manifest.denoiser.heads
    if size not in HEAD_SIZES:
        raise UserError(
            f"{bundle.path}: the heads of {name} have {size} channels; attention in int8 is for "
            f"{', '.join(map(str, HEAD_SIZES))}"
        )
    return True


def replace_attention(model: Any) -> list[Any]:
    """Put the operator in the place of a graph's attention.

    Args:
        model: of an ONNX file, or of the package onnx; changed.

    Returns:
        The nodes that are the operator's now.

    Raises:
        BundleError: there is none that it can stand for.
    """
    found = [node for node in model.graph.node if _replaceable(node)]
    if not found:
        raise BundleError("the graph has no attention that could be computed in int8")
    for node in found:
        scale = next((a.f for a in node.attribute if a.name == SCALE), 0.0)
        node.op_type, node.domain = OPERATOR, DOMAIN
        del node.attribute[:]
        node.attribute.add(name=SCALE, f=scale, type=FLOAT_ATTRIBUTE)
    use_domain(model, DOMAIN)
    return found


def _replaceable(node: Any) -> bool:
    """Of queries, keys and values alone, with heads along an axis of their own.

    Whatever else a node may say (a causal mask, a soft cap) is 0 then.
    """
    plain = {SCALE, "softmax_precision"}
    return (
        node.op_type == "Attention"
        and len(node.input) == 3
        and len(node.output) == 1
        and all(a.name in plain or a.i == a.f == 0 for a in node.attribute)
    )
