"""The zero padding of a prompt as one key of cross attention, which is exact.

Wan pads prompts with zeros and attends to them unmasked. What each token becomes depends on it
alone, so N zeros become N equal keys and values, which weigh as much as one with a bias of log N.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...manifest import PROMPT
from .wiring import Wiring, number

BIAS = f"{PROMPT}.bias"
"""What is added to the scores of the prompt's tokens, (batch, 1, 1, tokens)."""

MASK = f"{BIAS}.mask"
PRODUCTS = {"DynamicQuantizeMatMul", "MatMul", "MatMulNBits"}
ELEMENTWISE = {
    "Add", "Cast", "Div", "FastGelu", "Gelu", "Mul", "Sigmoid", "Sub", "Tanh",
}  # fmt: skip
NORMALIZATIONS = {"LayerNormalization", "RMSNormalization"}


def attend_with_bias(step: Any, prompt: Any) -> bool:
    """Let a step's attention add a bias to the scores of the prompt's tokens.

    Args:
        step: the part of a denoiser that runs in each step; changed, or left as it is.
        prompt: the part that gives keys and values.

    Returns:
        whether it does: all that is made of the prompt must be made token by token, and be keys
        and values of attention alone.
    """
    made = _token_by_token(prompt)
    nodes = [node for node in step.graph.node if (made | {PROMPT}).intersection(node.input)]
    if not nodes or not all(_attends(node, made) for node in nodes):
        return False
    if any(output.name in _reached(prompt) - made for output in prompt.graph.output):
        return False
    wiring = Wiring(step)
    step.graph.input.add(name=BIAS).type.tensor_type.elem_type = 1
    wiring.replace(nodes[0], [*_over_queries(wiring, nodes[0].input[0]), nodes[0]])
    for node in nodes:
        heads = int(number(node, "num_heads") or number(node, "q_num_heads"))
        scale = [a for a in node.attribute if a.name == "scale"]
        node.op_type, node.domain = "Attention", ""
        node.ClearField("attribute")
        node.attribute.extend(scale)
        wiring.set(node, q_num_heads=heads, kv_num_heads=heads)
        node.input.append(MASK)
    wiring.finish()
    return True


def shorten(text: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Leave one zero of the padding, and say what to add to the scores.

    Args:
        text: (batch, tokens, channels).

    Returns:
        the same with fewer tokens, and the bias (batch, 1, 1, tokens).
    """
    tokens = text.shape[1]
    said = (text != 0).any(axis=-1)
    used = np.where(said.any(axis=1), tokens - np.argmax(said[:, ::-1], axis=1), 0)
    kept = min(int(used.max()) + 1, tokens)
    place = np.arange(kept)
    bias = np.where(place < used[:, None], 0, -np.inf).astype(np.float32)
    for row, length in enumerate(used):
        if length < tokens:
            bias[row, length] = np.log(tokens - length)
    return text[:, :kept], bias[:, None, None]


def _token_by_token(prompt: Any) -> set[str]:
    """What is made of each token of the text alone."""
    constant = {tensor.name for tensor in prompt.graph.initializer}
    made = {PROMPT}
    for node in prompt.graph.node:
        names = [name for name in node.input if name]
        if names and constant.issuperset(names):
            constant.update(node.output)
        elif _is_by_token(node.op_type, names, made, constant):
            made.update(node.output)
    return made - {PROMPT}


def _is_by_token(op: str, names: list[str], made: set[str], constant: set[str]) -> bool:
    if op in ELEMENTWISE:
        return made.issuperset(set(names) - constant)
    if op in PRODUCTS | NORMALIZATIONS:
        return names[0] in made and constant.issuperset(names[1:])
    return False


def _reached(prompt: Any) -> set[str]:
    """All that depends on the text."""
    reached = {PROMPT}
    for node in prompt.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    return reached


def _attends(node: Any, made: set[str]) -> bool:
    """Whether a node is attention to them, with heads side by side and no mask yet."""
    kind = node.op_type == "MultiHeadAttention" or number(node, "q_num_heads")
    query, *rest = node.input
    return bool(kind) and len(rest) == 2 and query not in made and made.issuperset(rest)


def _over_queries(wiring: Wiring, queries: str) -> Iterable[Any]:
    """Nodes that repeat the bias for each of the queries, as ONNX Runtime wants it."""
    length, shape, one = f"{BIAS}.queries", f"{BIAS}.shape", f"{BIAS}.one"
    wiring.constant(one, [1])
    yield wiring.new("Shape", [queries], length, start=1, end=2)
    yield wiring.new("Concat", [one, one, length, one], shape, axis=0)
    yield wiring.new("Expand", [BIAS, shape], MASK)
