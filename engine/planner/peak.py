"""How much memory a graph takes: its weights, and what lives while its nodes run in turn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .arena import Arena, Chunk
from .graph import BFLOAT16, BYTES, FLOAT, FLOAT16, Node, OnnxGraph, Value
from .order import execution_order
from .weights import held

VIEWS = {"Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Their result is their first input's memory under another shape."""

IN_PLACE = {
    "Abs", "Add", "Cast", "Clip", "Cos", "Div", "Erf", "Exp", "Mul", "Neg", "Reciprocal", "Relu",
    "Sigmoid", "Sin", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
"""Their result may take the place of an input of the same size that nothing needs any more."""

BLOCK = 128
"""Keys that our own attention takes at once; the last ones are filled up."""

LAID = 48
"""Rows that our own product takes at once."""

HOLDING = {"Attention", "BlockedAttention", "BlockedMatMulNBits", "MultiHeadAttention"}
"""What holds something for itself while it runs."""

Width = Callable[[int], float]
"""Bytes an element of a type, by its code, as a backend holds it."""


@dataclass(frozen=True)
class Peak:
    """Bytes of one graph.

    Attributes:
        weights: as the backend holds them.
        live: the most that all else takes at one time in a run.
        arena: what ONNX Runtime has taken for that from the system, after all runs.
    """

    weights: int = 0
    live: int = 0
    arena: int = 0

    def __add__(self, other: Peak) -> Peak:
        """Of two graphs that are open together, one of which runs; arenas give nothing back."""
        return Peak(
            self.weights + other.weights, max(self.live, other.live), self.arena + other.arena
        )


def natural(code: int) -> float:
    """Each type in its own width."""
    return BYTES[code]


def on_cpu(code: int) -> float:
    """Half precision is computed in fp32, and its weights are held so."""
    return BYTES[FLOAT] if code in {FLOAT16, BFLOAT16} else BYTES[code]


def measure(
    graph: OnnxGraph,
    values: Mapping[str, Value],
    width: Width,
    *,
    fused: bool,
    runs: int,
    decoded: Collection[int] = (),
) -> Peak:
    """The memory of a graph; what the caller holds (its inputs) is not in it.

    Args:
        graph: its nodes.
        values: the shape of every tensor, as `shapes.infer` gives them.
        width: of an element.
        fused: whether attention keeps no scores.
        runs: how often it runs; each holds what the one before gave, as a VAE's caches.
        decoded: types of quantized weights that are decoded when the graph is opened.
    """
    nodes, constant = held(graph, decoded)
    sizes = {name: value.elements * width(value.code) for name, value in values.items()}
    weights = sum(sizes[name] for name in constant)
    scores = {} if fused else {n.outputs[0]: _within(n, values) for n in nodes if n.op in HOLDING}
    memory = _Memory(sizes, scores, graph.outputs)
    nodes = execution_order(nodes)
    for _ in range(runs):
        memory.run(nodes)
    return Peak(math.ceil(weights), math.ceil(memory.peak), memory.arena.resident)


class _Memory:
    """What is held while nodes run; several names may share a place."""

    def __init__(
        self, sizes: Mapping[str, float], scores: Mapping[str, float], results: Sequence[str]
    ) -> None:
        self._sizes = sizes
        self._scores = scores
        self._results = results
        self._places: dict[str, str] = {}
        self._names: Counter[str] = Counter()
        self._chunks: dict[str, Chunk] = {}
        self._kept: list[Chunk] = []
        self._live = 0.0
        self.peak = 0.0
        self.arena = Arena()

    def run(self, nodes: Iterable[Node]) -> None:
        """Run a graph once; the results of the run before are held until it is done."""
        nodes = list(nodes)
        uses = Counter(name for node in nodes for name in node.inputs)
        uses.update(self._results)
        for node in nodes:
            uses.subtract(node.inputs)
            self._run(node, uses)
        for chunk in self._kept:
            self.arena.release(chunk)
        self._kept = list(self._chunks.values())
        self._places.clear()
        self._names.clear()
        self._chunks.clear()
        self._live = 0.0

    def _run(self, node: Node, uses: Counter[str]) -> None:
        """Make room for a node's results, then free what nothing needs any more."""
        for index, name in enumerate(node.outputs):
            if name and uses[name]:
                self._hold(name, self._place(node, uses) if index == 0 else None)
        scores = self._scores.get(node.outputs[0], 0.0)
        if scores:
            self.arena.release(self.arena.allocate(scores))
        self.peak = max(self.peak, self._live + scores)
        for name in {*node.inputs} & self._places.keys():
            if uses[name] <= 0:
                self._release(name)

    def _place(self, node: Node, uses: Counter[str]) -> str | None:
        """The place of an input that the first result takes over or shares."""
        if node.op in VIEWS:
            return self._places.get(node.inputs[0])
        for name in node.inputs if node.op in IN_PLACE else ():
            place = self._places.get(name)
            if place is None or uses[name] > 0 or self._names[place] > 1:
                continue
            if self._sizes[place] == self._sizes[node.outputs[0]]:
                return place
        return None

    def _hold(self, name: str, place: str | None) -> None:
        if place is None:
            place = name
            self._chunks[name] = self.arena.allocate(self._sizes[name])
            self._live += self._sizes[name]
        self._places[name] = place
        self._names[place] += 1

    def _release(self, name: str) -> None:
        place = self._places.pop(name)
        self._names[place] -= 1
        if not self._names[place]:
            self.arena.release(self._chunks.pop(place))
            self._live -= self._sizes[place]


def _within(node: Node, values: Mapping[str, Value]) -> float:
    """Bytes that an operator holds for itself.

    Attention in fp32: the scores of all heads, but not in blocks. Where heads lie side by side,
    also its inputs, one head after the other; our own operator lays keys and values so, in bf16.
    Our own product lays its input, in bf16.
    """
    if node.op == "BlockedMatMulNBits":
        *rows, channels = values[node.inputs[0]].shape
        return math.ceil(math.prod(rows) / LAID) * LAID * channels * BYTES[BFLOAT16]
    given = [values[name] for name in node.inputs[:3]]
    query, key = given[0].shape, given[1].shape
    if node.op == "BlockedAttention":
        batch, tokens, channels = key
        return batch * math.ceil(tokens / BLOCK) * BLOCK * (2 * channels * BYTES[BFLOAT16] + 4)
    turned = sum(value.elements for value in given) if len(query) == 3 else 0
    heads = node.attributes.get("q_num_heads") or query[1]
    scores = query[0] * int(heads) * query[-2] * key[-2] if node.op == "Attention" else 0
    return (scores + turned) * BYTES[FLOAT]
