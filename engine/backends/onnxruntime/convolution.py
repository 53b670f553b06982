"""Convolutions of a wide VAE by our own operator, which computes them without laying them out.

`BlockedConvolution` (`native/custom_op.cpp`) takes the frames of the run before beside the new ones
and keeps the last for the next run, doubles rows and columns as it reads, and adds as it writes:
what are five nodes, with gigabytes between them, is one. Its products are in fp32, or in bf16 where
the bundle's denoiser is in int8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...floats import to_bf16
from ...manifest import DENOISERS, Precision
from ...onnx_file import OnnxFile, add_initializer
from .native_operators import DOMAIN
from .wiring import Wiring, ints, number, word

OPERATOR = "BlockedConvolution"
ROWS = 8
"""Outputs that are computed at once."""

MOST = 5
"""Rows and columns of a kernel: what a strip of its patch has room for."""

WIDEST_SINGLE = 256
"""Channels: with more, a patch in fp32 fills a core's cache, and ONNX Runtime is as fast."""

WIDE = 96
"""Channels. A narrower VAE is done before the compiler of the operator would be."""

Words = NDArray[np.int32]


@dataclass(frozen=True)
class _Source:
    """Where a convolution gets its pixels from.

    Attributes:
        name: of the tensor.
        earlier: of that with the frames before, if any.
        later: of that which keeps the last frames, if any.
        kept: how many these are.
        scale: as how many pixels one counts, across and down.
        replaced: nodes that are done by the operator too.
    """

    name: str
    earlier: str = ""
    later: str = ""
    kept: int = 0
    scale: int = 1
    replaced: tuple[Any, ...] = ()


def fits_convolutions(file: OnnxFile, precision: Precision) -> bool:
    """Whether a VAE's graph may be opened so: it computes in fp32 and is wide."""
    widths = (shape[1] for shape in file.shapes.values() if len(shape) == 5)
    return precision == "fp32" and max(widths, default=0) >= WIDE


def in_bf16(bundle: Bundle) -> bool:
    """Whether products may be in bf16, as the denoiser loses more already."""
    graphs = bundle.manifest.graphs
    return any(graphs[name].precision == "int8" for name in DENOISERS if name in graphs)


def convolve_in_blocks(file: OnnxFile, *, bf16: bool) -> dict[str, str]:
    """Put the operator into the place of ONNX Runtime's convolutions.

    Args:
        file: of a VAE's graph; its model is changed.
        bf16: what products are in; else in fp32.

    Returns:
        For each initializer that is to have what `pack` makes, the one that it is made of.
    """
    wiring = Wiring(file.model)
    packed: dict[str, str] = {}
    for node in wiring.nodes:
        stored = wiring.stored(node)
        shape = file.shapes.get(stored, ())
        if node.op_type != "Conv" or not _fits(node, shape, bf16=bf16):
            continue
        name = f"{stored}.packed"
        if name not in packed:
            form = packed_shape(shape, bf16=bf16)
            add_initializer(file.model, name, form, np.dtype(np.int32))
            packed[name] = stored
        source = _clip(file, wiring, node) if len(shape) == 5 else _pictures(file, wiring, node)
        _replace(wiring, node, source, name, bf16=bf16)
    wiring.finish()
    return packed


def packed_shape(shape: Sequence[int], *, bf16: bool) -> tuple[int, ...]:
    """Of weights (outputs, channels, …, rows, columns), as `pack` gives them."""
    outputs, channels, *kernel = shape
    depth = kernel[0] if len(kernel) == 3 else 1
    words = math.ceil(channels / 2) if bf16 else channels
    return (math.ceil(outputs / ROWS), depth, *kernel[-2:], words, ROWS)


def pack(weights: NDArray[np.float32], *, bf16: bool) -> Words:
    """Weights of a convolution as the operator takes them: 32-bit words, two channels in bf16."""
    outputs, channels, *kernel = weights.shape
    tiles, depth, *side, words, rows = packed_shape(weights.shape, bf16=bf16)
    each = 2 if bf16 else 1
    filled = np.zeros((tiles * rows, words * each, *kernel), np.float32)
    filled[:outputs, :channels] = weights
    parts = filled.reshape(tiles, rows, words, each, depth, *side)
    laid = np.ascontiguousarray(parts.transpose(0, 4, 5, 6, 2, 1, 3))
    if not bf16:
        return laid[..., 0].view(np.int32)
    return to_bf16(laid).view(np.int32)[..., 0]


def _fits(node: Any, weights: tuple[int, ...], *, bf16: bool) -> bool:
    kernel = list(weights[2:])
    if not bf16 and weights[1:2] > (WIDEST_SINGLE,):
        return False
    if len(kernel) not in {2, 3} or len(node.input) < 3 or number(node, "group") > 1:
        return False
    margins = [0] * (len(kernel) - 2) + [kernel[-1] // 2] * 2
    return (
        math.prod(kernel) > 1
        and kernel[-1] == kernel[-2]
        and kernel[-1] in range(1, MOST + 1, 2)
        and {*ints(node, "strides"), *ints(node, "dilations")} <= {1}
        and (ints(node, "pads") or [0] * 2 * len(kernel)) == margins * 2
    )


def _clip(file: OnnxFile, wiring: Wiring, node: Any) -> _Source:
    """What a convolution of clips takes; frames may have been joined and kept just for it."""
    name = node.input[0]
    joined = wiring.giver(name, "Concat")
    others = [taker for taker in wiring.takers(name) if taker is not node]
    if joined is not None and len(joined.input) == 2 and number(joined, "axis") == 2:
        kept = [_kept(file, taker) for taker in others]
        if len(others) <= 1 and all(kept) and not any(wiring.takers(o.output[0]) for o in others):
            later = others[0].output[0] if others else ""
            return _Source(joined.input[1], joined.input[0], later, sum(kept), 1, tuple(others))
    return _Source(name)


def _pictures(file: OnnxFile, wiring: Wiring, node: Any) -> _Source:
    """What a convolution of pictures takes; pixels may have been doubled just for it."""
    name = node.input[0]
    doubled = wiring.giver(name, "Resize")
    if doubled is not None and len(wiring.takers(name)) == 1 and _doubles(file, doubled):
        return _Source(doubled.input[0], scale=2)
    return _Source(name)


def _kept(file: OnnxFile, node: Any) -> int:
    """How many of the last frames a node gives; 0 where it does something else."""
    if node.op_type != "Slice" or len(node.input) < 4:
        return 0
    starts, ends, axes, *steps = (file.numbers(name) for name in node.input[1:])
    if len(starts) != 1 or axes != [2] or steps not in ([], [[1]]) or ends[0] < 1 << 31:
        return 0
    return max(0, int(-starts[0]))


def _doubles(file: OnnxFile, node: Any) -> bool:
    """Whether a node writes each row and column twice."""
    modes = [word(node, f"{of}mode") for of in ("", "nearest_", "coordinate_transformation_")]
    scales = file.numbers(node.input[2]) if len(node.input) == 3 else []
    return scales == [1, 1, 2, 2] and modes == ["nearest", "floor", "asymmetric"]


def _sum(wiring: Wiring, node: Any) -> tuple[Any, str] | None:
    """The sum that a convolution goes into alone, and what of its shape is added there."""
    total = wiring.taker(node.output[0], "Add")
    if total is None or wiring.is_replaced(total):
        return None
    first, second = total.input
    other = second if first == node.output[0] else first
    alike = other != node.output[0] and any(wiring.giver(other, op) for op in ("Add", "Conv"))
    return (total, other) if alike else None


def _replace(wiring: Wiring, node: Any, source: _Source, weights: str, *, bf16: bool) -> None:
    last, added = _sum(wiring, node) or (node, "")
    inputs = [source.name, weights, node.input[2], source.earlier, added]
    while not inputs[-1]:
        inputs.pop()
    settings = {"bf16": int(bf16), "scale": source.scale, "kept": source.kept}
    made = wiring.new(OPERATOR, inputs, last.output[0], DOMAIN, **settings)
    made.output.extend(filter(None, [source.later]))
    for other in (node, *source.replaced):
        wiring.replace(other, [])
    wiring.replace(last, [made])
