"""Operators that make, cut, join and turn tensors: the shape of what they give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .graph import INT64, Node, Value
from .known import MAX_COMPUTED, Inputs, content, ints, need


def shape(node: Node, given: Inputs) -> list[Value]:
    """The dimensions of a tensor, as a tensor."""
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    part = np.array(need(given[0]).shape[start:end], np.int64)
    return [Value(part.shape, INT64, part)]


def constant(node: Node, given: Inputs) -> list[Value]:
    """A tensor that stands in the node."""
    return [node.attributes["value"]]


def constant_of_shape(node: Node, given: Inputs) -> list[Value]:
    """One value, of a shape that is given."""
    filled: Value | None = node.attributes.get("value")
    return [Value(tuple(ints(given[0])), filled.code if filled else 1)]


def expand(node: Node, given: Inputs) -> list[Value]:
    """Repeated to a shape that is given."""
    source = need(given[0])
    return [Value(np.broadcast_shapes(source.shape, tuple(ints(given[1]))), source.code)]


def reshape(node: Node, given: Inputs) -> list[Value]:
    """0 keeps a dimension, -1 is what remains."""
    source, wanted = need(given[0]), ints(given[1])
    if not node.attributes.get("allowzero", 0):
        wanted = [source.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in wanted:
        wanted[wanted.index(-1)] = source.elements // -math.prod(wanted)
    return [_reshaped(source, wanted)]


def _reshaped(source: Value, shape: Sequence[int]) -> Value:
    known = source.content
    return Value(tuple(shape), source.code, None if known is None else known.reshape(shape))


def squeeze(node: Node, given: Inputs) -> list[Value]:
    """Without dimensions of length 1."""
    source = need(given[0])
    rank = len(source.shape)
    if len(given) > 1:
        axes = {axis % rank for axis in ints(given[1])}
    else:
        axes = {i for i, size in enumerate(source.shape) if size == 1}
    return [_reshaped(source, [size for i, size in enumerate(source.shape) if i not in axes])]


def unsqueeze(node: Node, given: Inputs) -> list[Value]:
    """With more dimensions of length 1."""
    source, axes = need(given[0]), ints(given[1])
    rank = len(source.shape) + len(axes)
    ones, sizes = {axis % rank for axis in axes}, iter(source.shape)
    return [_reshaped(source, [1 if i in ones else next(sizes) for i in range(rank)])]


def transpose(node: Node, given: Inputs) -> list[Value]:
    """With dimensions in another order."""
    source = need(given[0])
    order = node.attributes.get("perm") or list(range(len(source.shape)))[::-1]
    return [Value(tuple(source.shape[axis] for axis in order), source.code)]


def concat(node: Node, given: Inputs) -> list[Value]:
    """Tensors one after the other."""
    values = [need(value) for value in given]
    axis = node.attributes["axis"] % len(values[0].shape)
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    contents = [value.content for value in values if value.content is not None]
    whole = len(contents) == len(values)
    known = np.concatenate(contents, axis) if whole and math.prod(shape) <= MAX_COMPUTED else None
    return [Value(tuple(shape), values[0].code, known)]


def slice_(node: Node, given: Inputs) -> list[Value]:
    """A part of a tensor."""
    source, starts, ends = need(given[0]), ints(given[1]), ints(given[2])
    axes = ints(given[3]) if len(given) > 3 and given[3] else list(range(len(starts)))
    steps = ints(given[4]) if len(given) > 4 and given[4] else [1] * len(starts)
    parts = [slice(None)] * len(source.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -source.shape[axis] else end
        parts[axis] = slice(start, stop, step)
    sizes = zip(parts, source.shape, strict=True)
    shape = tuple(len(range(*part.indices(size))) for part, size in sizes)
    known = None if source.content is None else source.content[tuple(parts)]
    return [Value(shape, source.code, known)]


def split(node: Node, given: Inputs) -> list[Value]:
    """Parts of a tensor, of lengths that are given or equal."""
    source = need(given[0])
    axis, count = node.attributes.get("axis", 0), len(node.outputs)
    length = source.shape[axis]
    if len(given) > 1 and given[1] is not None:
        sizes = ints(given[1])
    else:
        part = -(-length // count)
        sizes = [min(part, length - i * part) for i in range(count)]
    shapes = [list(source.shape) for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    return [Value(tuple(shape), source.code) for shape in shapes]


def pad(node: Node, given: Inputs) -> list[Value]:
    """More elements before and after each dimension, or fewer."""
    source, pads = need(given[0]), ints(given[1])
    count = len(pads) // 2
    axes = ints(given[3]) if len(given) > 3 and given[3] else range(count)
    sizes = list(source.shape)
    for i, axis in enumerate(axes):
        sizes[axis] += pads[i] + pads[i + count]
    return [Value(tuple(sizes), source.code)]


def gather(node: Node, given: Inputs) -> list[Value]:
    """Elements by their numbers."""
    source, indices = need(given[0]), need(given[1])
    axis = node.attributes.get("axis", 0) % len(source.shape)
    shape = (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])
    if source.content is None or indices.content is None:
        return [Value(shape, source.code)]
    return [Value(shape, source.code, np.take(source.content, indices.content, axis))]


def range_(node: Node, given: Inputs) -> list[Value]:
    """Numbers at equal distances."""
    known = np.arange(*(content(value).item() for value in given))
    return [Value(known.shape, need(given[0]).code, known)]
