"""Attention of a denoiser in few nodes.

An exported block turns its queries and keys by nine nodes each (rotary embedding), and lays heads
before tokens and back around each `Attention`. ONNX Runtime has nodes that take tokens as they lie:
`RotaryEmbedding`, `Attention` with heads side by side, and `MultiHeadAttention`, which computes in
blocks and never holds all scores.

Source: ONNX, `docs/Operators.md`; ONNX Runtime, `docs/ContribOperators.md`.
"""

from __future__ import annotations

from typing import Any

from ...onnx_file import MICROSOFT
from .wiring import Wiring, ints, number

CAST, ROTARY = "Cast", "RotaryEmbedding"
HEADS_FIRST = [0, 2, 1, 3]
"""(batch, tokens, heads, channels) → (batch, heads, tokens, channels), and the way back."""

WIDE = 1024
"""From this width on attention goes in blocks. Narrower models are faster with all scores at once
(0.7 of the time at 80 tokens of 5 heads), which take little memory there; docs/lab.md."""

SOFTMAX_PRECISION = "softmax_precision"
FIRST_POSITION = "attention.first_position"


def fuse(model: Any, heads: int, *, in_blocks: bool) -> None:
    """Replace the attention of a graph, where it has the form in which it is exported.

    Args:
        model: of the ONNX file; changed.
        heads: of its attention.
        in_blocks: take the node that holds no scores on a CPU.
    """
    wiring = Wiring(model)
    for node in [node for node in wiring.nodes if node.op_type == "Attention"]:
        _fuse(wiring, node, heads, in_blocks)
    wiring.constant(FIRST_POSITION, [0])
    wiring.finish()


def leave_precision(model: Any) -> None:
    """Leave softmax's precision to ONNX Runtime, which takes fp32 for it everywhere.

    Its CUDA kernels refuse to be told so (seen in its source, `providers/cuda/llm/attention.cc`).
    """
    for node in model.graph.node:
        if node.op_type == "Attention":
            kept = [a for a in node.attribute if a.name != SOFTMAX_PRECISION]
            node.ClearField("attribute")
            node.attribute.extend(kept)


def _fuse(wiring: Wiring, node: Any, heads: int, in_blocks: bool) -> None:
    if len(node.input) != 3 or number(node, "is_causal") or number(node, "softcap"):
        return
    last = _after(wiring, node.output[0])
    found = [made for name in node.input if (made := _before(wiring, name)) is not None]
    if last is None or len(found) < len(node.input):
        return
    turned = [nodes for _, nodes in found]
    kinds = [{new.op_type for new in nodes} for nodes in turned]
    if any(CAST in each for each in kinds) and not (
        in_blocks and all(ROTARY in each for each in kinds[:2])
    ):
        return  # in fp16, what gains is attention without scores, of the tokens among themselves
    inputs = [name for name, _ in found]
    if in_blocks:
        made = wiring.new("MultiHeadAttention", inputs, last.output[0], MICROSOFT, num_heads=heads)
    else:
        made = wiring.new(
            "Attention", inputs, last.output[0], q_num_heads=heads, kv_num_heads=heads
        )
    made.attribute.extend(a for a in node.attribute if a.name == "scale")
    wiring.replace(last, [*(new for nodes in turned for new in nodes), made])


def _before(wiring: Wiring, name: str) -> tuple[str, list[Any]] | None:
    """What an input of attention is made of: a tensor of tokens, and the new nodes that give it."""
    transposed = wiring.giver(name, "Transpose")
    if transposed is None or ints(transposed, "perm") != HEADS_FIRST:
        return None
    cast = wiring.giver(transposed.input[0], CAST)
    source = transposed.input[0] if cast is None else cast.input[0]
    if reshaped := wiring.giver(source, "Reshape"):
        tokens, nodes = reshaped.input[0], []
    else:
        rotation = _rotation(wiring, source)
        if rotation is None:
            return None
        tokens, nodes = rotation.output[0], [rotation]
    if cast is not None:
        again = wiring.new(CAST, [tokens], f"{name}.cast")
        again.attribute.extend(cast.attribute)
        tokens, nodes = again.output[0], [*nodes, again]
    return tokens, nodes


def _after(wiring: Wiring, name: str) -> Any:
    """The last of the nodes that lay the result of attention back."""
    turned = wiring.taker(name, "Transpose")
    if turned is None or ints(turned, "perm") != HEADS_FIRST:
        return None
    return wiring.taker(turned.output[0], "Reshape")


def _rotation(wiring: Wiring, name: str) -> Any:
    """One node for (a·cos - b·sin, a·sin + b·cos), a and b the halves of each head."""
    joined = wiring.giver(name, "Concat")
    if joined is None or len(joined.input) != 2:
        return None
    difference = wiring.giver(joined.input[0], "Sub")
    total = wiring.giver(joined.input[1], "Add")
    if difference is None or total is None:
        return None
    products = [wiring.giver(part, "Mul") for part in (*difference.input, *total.input)]
    if None in products:
        return None
    (a, cos), (b, sin), *crossed = (tuple(product.input) for product in products)
    halves = wiring.giver(a, "Split")
    tables = [wiring.giver(table, "Unsqueeze") for table in (cos, sin)]
    if crossed != [(a, sin), (b, cos)] or halves is None or None in tables:
        return None
    reshaped = wiring.giver(halves.input[0], "Reshape")
    if list(halves.output) != [a, b] or reshaped is None:
        return None
    inputs = [reshaped.input[0], FIRST_POSITION, *(table.input[0] for table in tables)]
    return wiring.new(ROTARY, inputs, f"{name}.turned", MICROSOFT)
