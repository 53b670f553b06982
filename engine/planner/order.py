"""The order in which ONNX Runtime runs the nodes of a graph, on which its memory depends.

Depth first from the nodes whose results no other takes, the last of them first: what a graph gives
beside its main result, such as a VAE's caches, is computed last, and what it comes from waits.
Source: ONNX Runtime, `GraphViewer` and `Graph::ReverseDFSFrom` (its default order).
"""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Node


def execution_order(nodes: Sequence[Node]) -> list[Node]:
    """The same nodes, as they will run."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    sources = [sorted({maker[n] for n in node.inputs if n in maker}) for node in nodes]
    taken = {source for each in sources for source in each}
    stack = [(index, False) for index in range(len(nodes)) if index not in taken]
    seen: set[int] = set()
    order = []
    while stack:
        index, ready = stack.pop()
        if ready:
            order.append(nodes[index])
        elif index not in seen:
            seen.add(index)
            stack.append((index, True))
            stack += [(source, False) for source in sources[index] if source not in seen]
    return order
