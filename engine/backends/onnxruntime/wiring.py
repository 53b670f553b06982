"""The nodes of an ONNX graph, found by the tensors between them, and replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...onnx_file import use_domain, useful

INT_ATTRIBUTE, INT64 = 2, 7
"""Of an attribute and of a tensor, by the codes that ONNX has for them."""


class Wiring:
    """What gives and what takes each tensor of a graph, as it was when this was made."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.nodes: list[Any] = list(model.graph.node)
        self._givers = {name: node for node in self.nodes for name in node.output}
        self._takers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)
        self._replaced: dict[str, list[Any]] = {}

    def giver(self, name: str, op: str) -> Any:
        """The node that gives a tensor, if it is of an operator, else `None`."""
        node = self._givers.get(name)
        return node if node is not None and node.op_type == op else None

    def taker(self, name: str, op: str) -> Any:
        """The only node that takes a tensor, if it is of an operator, else `None`."""
        nodes = self._takers.get(name, [])
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type == op else None

    def takers(self, name: str) -> list[Any]:
        """The nodes that take a tensor."""
        return self._takers.get(name, [])

    def stored(self, node: Any) -> str:
        """The initializer that a node's second input is, or is cast from."""
        name = node.input[1] if len(node.input) > 1 else ""
        cast = self.giver(name, "Cast")
        return str(name if cast is None else cast.input[0])

    def new(
        self, op: str, inputs: Sequence[str], output: str, domain: str = "", **numbers: int
    ) -> Any:
        """A node that is nowhere yet."""
        node = self._model.graph.node.add(op_type=op, domain=domain, name=output)
        node.input.extend(inputs)
        node.output.append(output)
        self.set(node, **numbers)
        return node

    def set(self, node: Any, **numbers: int) -> None:
        """Give a node attributes."""
        for name, value in numbers.items():
            node.attribute.add(name=name, i=value, type=INT_ATTRIBUTE)

    def constant(self, name: str, values: Sequence[int]) -> None:
        """A tensor of whole numbers."""
        raw = np.array(values, np.int64).tobytes()
        self._model.graph.initializer.add(
            name=name, dims=[len(values)], data_type=INT64, raw_data=raw
        )

    def replace(self, node: Any, nodes: Iterable[Any]) -> None:
        """Put others into the place of a node."""
        self._replaced[node.output[0]] = list(nodes)

    def is_replaced(self, node: Any) -> bool:
        """Whether others were put into its place."""
        return node.output[0] in self._replaced

    def finish(self) -> None:
        """Write the nodes back, but for those that nothing needs any more."""
        graph = self._model.graph
        ordered = [new for node in self.nodes for new in self._replaced.get(node.output[0], [node])]
        kept = useful(ordered, [output.name for output in graph.output])
        graph.ClearField("node")
        graph.node.extend(kept)
        for domain in {node.domain for node in kept} - {""}:
            use_domain(self._model, domain)


def ints(node: Any, name: str) -> list[int]:
    """An attribute of a node, empty where it has none of that name."""
    return [i for a in node.attribute if a.name == name for i in a.ints]


def word(node: Any, name: str) -> str:
    """An attribute of a node, empty where it has none of that name."""
    return next((a.s.decode() for a in node.attribute if a.name == name), "")


def number(node: Any, name: str) -> float:
    """An attribute of a node, 0 where it has none of that name."""
    return next(
        (a.i if a.type == INT_ATTRIBUTE else a.f for a in node.attribute if a.name == name), 0
    )
