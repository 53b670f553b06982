"""Which provider runs the nodes of a graph that was opened for a GPU.

ONNX Runtime puts nodes on the CPU for two reasons: it computes shapes there on purpose
(`GetCpuPreferredNodes`: what follows from a Shape and small constants), and whatever the GPU's
provider has no kernel for. Its own `session.disable_cpu_ep_fallback` refuses both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ....errors import UserError

RECORD = "session.record_ep_graph_assignment_info"
"""ONNX Runtime remembers which provider took which node; from 1.24 on."""

OF_SHAPES = frozenset({"Shape", "Size"})
SMALL = 100
"""Elements of a constant that ONNX Runtime's own rule takes for part of a shape."""


def shape_nodes(graph: Any) -> set[str]:
    """The names of the nodes that compute with shapes and small constants alone."""
    known = {"", *(each.name for each in graph.initializer if math.prod(each.dims) <= SMALL)}
    found: set[str] = set()
    left, before = list(graph.node), -1
    while len(left) != before:  # nodes may stand before those that they follow from
        before, others = len(left), []
        for node in left:
            if node.op_type in OF_SHAPES or known.issuperset(node.input):
                found.add(node.name)
                known.update(node.output)
            else:
                others.append(node)
        left = others
    return found


def check_placement(graph: str, native: Any, provider: str, shapes: set[str]) -> None:
    """See that a provider runs all of a graph but its shapes.

    Args:
        graph: its name.
        native: a session that was opened with `RECORD`.
        provider: by ONNX Runtime's name.
        shapes: names of the nodes that another may run.

    Raises:
        UserError: a node is left to another, or ONNX Runtime is too old to say.
    """
    if not hasattr(native, "get_provider_graph_assignment_info"):
        raise UserError(
            "this ONNX Runtime does not say where its nodes run; "
            "install a newer one with: pip install -U 'mutoscope[cuda]'"
        )
    strays = list(_strays(native, provider, shapes))
    if strays:
        raise UserError(
            f"{graph}: ONNX Runtime has no kernel of {provider} for {len(strays)} of its nodes, "
            f"the first is {strays[0]}, and would run them on the CPU; use --backend onnxruntime"
        )


def _strays(native: Any, provider: str, shapes: set[str]) -> Iterator[str]:
    for part in native.get_provider_graph_assignment_info():
        if part.ep_name != provider:
            for node in part.get_nodes():
                if node.name not in shapes:
                    yield f"{node.name} ({node.op_type})"
