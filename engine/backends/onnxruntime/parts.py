"""A graph whose weights the machine's memory has no room for: its parts are opened in turn.

A run reads all weights again, so that this is for what runs seldom: an encoder, once a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...lora import Merged
from ...manifest import GraphSpec
from ...memory import machine_memory, return_free_memory
from ...onnx_file import CODES, STORED, OnnxFile, parse
from ...open import EngineOptions
from ...session import Tensor
from .prompt import part_of
from .session import OnnxRuntimeSession, check_interface, open_native

PART = 2 << 30
"""Bytes of weights that are open at a time; a larger tensor is a part of its own."""

MOST = 0.75
"""Of the machine's memory: what the weights of a graph may take that is opened whole."""

NUMBER, HALVES = 4, 2
"""Bytes of a weight as it is held, and how much more that may be than what is stored."""

TYPES = {**CODES, "bool": 9}
"""Of elements in ONNX, by NumPy's names."""

Arrays = dict[str, NDArray[Any]]


class PartsSession(OnnxRuntimeSession):
    """The parts of a graph behind the session protocol; one at a time is open, during a run."""

    def __init__(
        self, name: str, interface: GraphSpec, parts: Sequence[Any], open_part: Callable[[Any], Any]
    ) -> None:
        """Take the parts as ONNX files, which are messages, and what opens one natively."""
        super().__init__(name, interface, parts)
        self._parts = parts
        self._open_part = open_part

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        known = {name: np.asarray(tensor) for name, tensor in feeds.items()}
        for part in self._parts:
            known |= self._run_part(
                part, {tensor.name: known[tensor.name] for tensor in part.graph.input}
            )
        return {name: known[name] for name in self.outputs}

    def _run_part(self, part: Any, feeds: Arrays) -> Arrays:
        for tensor in part.graph.input:
            tensor.type.tensor_type.elem_type = TYPES[feeds[tensor.name].dtype.name]
        found = self._compute(self._open_part(part), feeds, [t.name for t in part.graph.output])
        copies = {name: np.array(array) for name, array in found.items()}
        found.clear()  # the engine's memory
        return_free_memory()
        return copies


def too_large(bundle: Bundle, graph: str) -> bool:
    """Whether the weights of a graph, as they are held, are too many for the machine's memory."""
    spec, most = bundle.graph(graph), MOST * machine_memory()
    stored = sum(bundle.manifest.files[name].size for name in (spec.file, *spec.data))
    if HALVES * stored <= most:
        return False
    return sum(weights_of(OnnxFile(bundle, graph).model).values()) > most


def open_in_parts(bundle: Bundle, graph: str, options: EngineOptions) -> PartsSession:
    """Read a graph; its weights are read at each run.

    Raises:
        BundleError: it has other inputs or outputs than its bundle says.
    """
    interface = bundle.graph(graph)
    path = bundle.file(interface.file)
    model = parse(path.read_bytes(), path)
    check_interface(path, interface, model.graph.input, model.graph.output)

    def open_part(part: Any) -> Any:
        content = Merged(part.SerializeToString(), {})
        return open_native(path, interface.precision, options, content)

    return PartsSession(graph, interface, cut(model, PART), open_part)


def weights_of(model: Any) -> dict[str, int]:
    """Bytes of the initializers as they are held, by name."""
    return {
        tensor.name: NUMBER * math.prod(tensor.dims) if tensor.data_type in STORED else 0
        for tensor in model.graph.initializer
    }


def cut(model: Any, most: int) -> list[Any]:
    """A graph in parts, each of which takes what those before give.

    Args:
        model: of the ONNX file; not changed.
        most: bytes of weights in a part, where no single node takes more.

    Returns:
        models; they say nothing of the types of what goes from one to another.
    """
    weights = weights_of(model)
    roots, constants, nodes = _trace(model)
    results = {output.name for output in model.graph.output}
    parts = []
    for segment in _segments([_needs(node, roots) for node in nodes], weights, most):
        inside = nodes[segment]
        made = {name for node in inside for name in node.output}
        later = {name for node in nodes[segment.stop :] for name in node.input} | results
        given = {name for node in nodes[: segment.start] for name in node.output}
        part = part_of(model, [*constants, *inside], sorted(made & later))
        taken = sorted({name for node in inside for name in node.input} & given)
        part.graph.input.extend(type(model.graph.input[0])(name=name) for name in taken)
        parts.append(part)
    return parts


def _trace(model: Any) -> tuple[dict[str, frozenset[str]], list[Any], list[Any]]:
    """The initializers behind each constant tensor, the nodes of constants, all other nodes."""
    roots = {tensor.name: frozenset([tensor.name]) for tensor in model.graph.initializer}
    constants, nodes = [], []
    for node in model.graph.node:
        taken = {name for name in node.input if name}
        if taken and taken <= roots.keys():
            roots |= dict.fromkeys(node.output, _needs(node, roots))
            constants.append(node)
        else:
            nodes.append(node)
    return roots, constants, nodes


def _needs(node: Any, roots: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*(roots.get(name, frozenset()) for name in node.input))


def _segments(
    needs: Sequence[frozenset[str]], weights: Mapping[str, int], most: int
) -> list[slice]:
    """Nodes in a row whose weights are together within a bound."""
    found, start = [], 0
    held: set[str] = set()
    for place, wanted in enumerate(needs):
        if place > start and sum(weights[name] for name in held | wanted) > most:
            found.append(slice(start, place))
            start, held = place, set()
        held |= wanted
    return [*found, slice(start, len(needs))]
