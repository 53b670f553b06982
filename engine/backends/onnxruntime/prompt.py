"""What a denoiser makes of the prompt alone: the same in each step, so it is a graph of its own.

In Wan that is the text embedding and the keys and values of every cross attention.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ...manifest import IMAGE, PROMPT
from ...onnx_file import useful


def split(
    model: Any, known: Collection[str] = (PROMPT, IMAGE)
) -> tuple[Any, Any, list[str]] | None:
    """Cut a graph in two.

    Args:
        model: of the ONNX file; not changed.
        known: the names of inputs.

    Returns:
        the graph of what depends on those inputs alone, the rest, and the tensors that go from one
        to the other; `None` where nothing depends on them alone. The rest says nothing of the types
        of those tensors.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    early = set(known)
    nodes: dict[bool, list[Any]] = {True: [], False: []}
    for node in model.graph.node:
        taken = {name for name in node.input if name}
        if taken and taken <= constant:
            constant.update(node.output)
            nodes[True].append(node)
            nodes[False].append(node)
            continue
        is_early = bool(taken) and taken <= constant | early
        early.update(node.output if is_early else ())
        nodes[is_early].append(node)
    made = early.difference(known)
    between = sorted({name for node in nodes[False] for name in node.input} & made)
    if not between:
        return None
    results = [output.name for output in model.graph.output]
    first, rest = part_of(model, nodes[True], between), part_of(model, nodes[False], results)
    rest.graph.input.extend(type(rest.graph.input[0])(name=name) for name in between)
    return first, rest, between


def part_of(model: Any, nodes: Iterable[Any], results: list[str]) -> Any:
    """A model of those of some nodes that results depend on, with what they need."""
    part = type(model)()
    part.CopyFrom(model)
    kept = useful(list(nodes), results)
    needed = {name for node in kept for name in node.input}
    _set(part.graph, "node", kept)
    for field in ("initializer", "input"):
        _set(
            part.graph, field, [item for item in getattr(model.graph, field) if item.name in needed]
        )
    outputs = {output.name: output for output in model.graph.output}
    kind = type(model.graph.output[0])
    _set(part.graph, "output", [outputs.get(name) or kind(name=name) for name in results])
    return part


def _set(graph: Any, field: str, items: list[Any]) -> None:
    graph.ClearField(field)
    getattr(graph, field).extend(items)
