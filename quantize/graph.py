"""The products with constant matrices in an ONNX graph, and how they are replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.initializers import InitializerName
from ..engine.onnx_file import MICROSOFT, OnnxFile, use_domain, useful
from ..errors import BundleError
from .tensors import Store

Array = NDArray[np.float32]
FLOAT_ATTRIBUTE, INT_ATTRIBUTE = 1, 2
"""Types of attributes, by the code that ONNX has for them."""


@dataclass(frozen=True)
class Linear:
    """A product with a constant matrix, and the sum with a constant vector after it.

    Attributes:
        name: of the matrix, as the checkpoint calls it.
        weight: the initializer that holds it.
        transposed: the initializer is (out, in), not (in, out).
        shape: (in, out).
        half: the graph computes it in fp16.
        source: the tensor that is multiplied.
        bias: the vector's tensor; `None` without one.
        result: what it gives.
        nodes: those that compute it, by their place in the graph.
    """

    name: str
    weight: str
    transposed: bool
    shape: tuple[int, int]
    half: bool
    source: str
    bias: str | None
    result: str
    nodes: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.shape[0] * self.shape[1]


def read_weight(file: OnnxFile, linear: Linear) -> Array:
    """The matrix, (in, out).

    Raises:
        BundleError: some of it are no numbers.
    """
    weight = file.read(linear.weight)
    if not np.isfinite(weight).all():
        raise BundleError(
            f"{file.path}: the weight {linear.name!r} has values that are NaN or infinite; "
            "it cannot be quantized, export the bundle again"
        )
    return weight.T if linear.transposed else weight


def find_linears(file: OnnxFile) -> list[Linear]:
    """All of a graph, in the order in which they are computed."""
    nodes = file.model.graph.node
    casts = {
        node.output[0]: node.input[0]
        for node in nodes
        if node.op_type == "Cast" and node.input[0] in file.shapes
    }
    sums = _sums(file, casts)
    found = []
    for index, node in enumerate(nodes):
        held = casts.get(node.input[1], node.input[1]) if len(node.input) > 1 else ""
        if not _is_product(node) or len(file.shapes.get(held, ())) != 2:
            continue
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        places: tuple[int, ...] = (index,)
        bias, result = next(iter(node.input[2:]), None), node.output[0]
        if bias is None and result in sums:
            place, bias = sums[result]
            result, places = nodes[place].output[0], (index, place)
        rows, columns = file.shapes[held]
        said = InitializerName.parse(held)
        found.append(
            Linear(
                name=(said.parameter if said else held).removesuffix(".weight"),
                weight=held,
                transposed=transposed,
                shape=(columns, rows) if transposed else (rows, columns),
                half=file.is_float16(held) and held == node.input[1],
                source=node.input[0],
                bias=bias,
                result=result,
                nodes=places,
            )
        )
    return found


def _sums(file: OnnxFile, casts: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """The place of the sum of a tensor and a constant vector, and the vector, by the tensor.

    Only of tensors that nothing else takes.
    """
    graph = file.model.graph
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    found = {}
    for index, node in enumerate(graph.node):
        if node.op_type == "Add":
            for name, other in (node.input, node.input[::-1]):
                if uses[name] == 1 and len(file.shapes.get(casts.get(other, other), ())) == 1:
                    found[name] = (index, other)
    return found


def _is_product(node: Any) -> bool:
    """Of two matrices as they are, or with a vector added."""
    if node.op_type == "Gemm":
        attributes = {a.name: a.f if a.type == FLOAT_ATTRIBUTE else a.i for a in node.attribute}
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        return all(attributes.get(name, value) == value for name, value in plain.items())
    return bool(node.op_type == "MatMul")


class Rewriting:
    """A graph whose nodes are being replaced; what nothing needs any more goes at the end."""

    def __init__(self, file: OnnxFile, store: Store) -> None:
        """Begin.

        Args:
            file: the graph, which is changed.
            store: takes the tensors that are new.
        """
        self.file = file
        self._graph = file.model.graph
        self._store = store
        self._nodes = list(self._graph.node)
        self._added: dict[int, list[Any]] = {}
        self._dropped: set[int] = set()
        self._known: set[str] = set()

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """A new constant, unless there is one of that name already; gives its name."""
        if name not in self._known:
            self._known.add(name)
            self._store.put(self._graph.initializer.add(name=name), values)
        return name

    def node(
        self,
        linear: Linear,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        **numbers: int,
    ) -> None:
        """A new node where a product is computed, unless there is one that gives the same.

        Args:
            linear: the product.
            op: the operator.
            inputs: the tensors that it takes; empty for one that is not given.
            outputs: the tensors that it gives.
            domain: of the operator.
            **numbers: its attributes.
        """
        if outputs[0] in self._known:
            return
        self._known.update(outputs)
        node = self._graph.node.add(op_type=op, domain=domain, name=outputs[0])
        node.input.extend(inputs)
        node.output.extend(outputs)
        for name, number in numbers.items():
            node.attribute.add(name=name, i=number, type=INT_ATTRIBUTE)
        self._added.setdefault(linear.nodes[0], []).append(node)

    def drop(self, linear: Linear) -> None:
        """Leave out the nodes that computed a product."""
        self._dropped.update(linear.nodes)

    def output(self, name: str) -> None:
        """Let the graph give one more of its tensors."""
        self._graph.output.add(name=name)

    def finish(self) -> bytes:
        """The whole file as it is now."""
        nodes = useful(list(self._ordered()), [output.name for output in self._graph.output])
        needed = {name for node in nodes for name in node.input}
        tensors = [tensor for tensor in self._graph.initializer if tensor.name in needed]
        for tensor in tensors:
            if tensor.external_data and tensor.name not in self._known:
                self._store.keep(tensor, self.file)
        for field, kept in (("node", nodes), ("initializer", tensors)):
            self._graph.ClearField(field)
            getattr(self._graph, field).extend(kept)
        if any(node.domain == MICROSOFT for node in nodes):
            use_domain(self.file.model, MICROSOFT)
        return self.file.serialize()

    def _ordered(self) -> Iterator[Any]:
        for index, node in enumerate(self._nodes):
            yield from self._added.get(index, ())
            if index not in self._dropped:
                yield node
