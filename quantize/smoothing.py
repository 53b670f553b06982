"""SmoothQuant: the range of outlying channels moves from activations into weights.

Source: Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine.onnx_file import OnnxFile
from .activations import Activations
from .graph import Linear, read_weight
from .grid import Grid

Array = NDArray[np.float32]
Quantize = Callable[[Activations], Array]
"""The rows of activations as they are after quantization."""

STRENGTH = 0.5
"""How much of the range moves: between all (1) and none (0)."""

WORTH = 0.75
"""Of the error without smoothing; what does not get below has no outliers, and would be fitted to
the clips of the calibration."""

LEAST = 1e-5


def asymmetric(activations: Activations) -> Array:
    """As ONNX's DynamicQuantizeLinear does, were the range that of all runs."""
    low, high = min(float(activations.low.min()), 0.0), max(float(activations.high.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    rows = np.clip(np.rint(activations.rows / scale) + zero, 0, 255) - zero
    return np.asarray(rows * scale, np.float32)


def symmetric(grid: Grid, activations: Activations) -> Array:
    """In a scale that is settled before the run."""
    return grid.rounded(activations.rows, grid.scale(activations.peak.max()))


def find_factors(
    file: OnnxFile,
    linears: Iterable[Linear],
    activations: Mapping[str, Activations],
    quantize: Quantize,
    grid: Grid,
) -> dict[str, Array]:
    """The factors (in,) of those inputs whose products gain by it; products may share an input.

    Args:
        file: the graph.
        linears: its products.
        activations: their inputs, by name.
        quantize: what becomes of activations.
        grid: that of the weights.
    """
    by_source: dict[str, list[Linear]] = {}
    for linear in linears:
        by_source.setdefault(linear.source, []).append(linear)
    found = {}
    for source, sharing in by_source.items():
        seen = activations[source]
        strongest = np.max([_strongest(read_weight(file, linear)) for linear in sharing], axis=0)
        factors = smooth(seen.peak, strongest)
        weights = (read_weight(file, linear) for linear in sharing)
        plain, smoothed = errors(seen, weights, (np.ones_like(factors), factors), quantize, grid)
        if smoothed < WORTH * plain:
            found[source] = factors
    return found


def smooth(peak: Array, strongest: Array) -> Array:
    """What the channels of an input are to be divided by; the geometric mean is 1.

    A channel below the mean counts as one of the mean: what was idle in calibration may not be
    so in another clip.

    Args:
        peak: the largest magnitude of each channel (in,).
        strongest: the largest of the weights that it meets (in,).
    """
    peak, strongest = (np.maximum(v, max(LEAST, float(v.mean()))) for v in (peak, strongest))
    factors = peak**STRENGTH / strongest ** (1 - STRENGTH)
    return np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)


def errors(
    activations: Activations,
    weights: Iterable[Array],
    ways: Sequence[Array],
    quantize: Quantize,
    grid: Grid,
) -> list[float]:
    """The relative error of all products of an input in 8 bits, smoothed in each of some ways."""
    rows = [quantize(activations.divided(factors)) for factors in ways]
    off, whole = [0.0] * len(ways), LEAST
    for weight in weights:
        exact = activations.rows @ weight
        whole += float(np.square(exact).sum())
        for way, factors in enumerate(ways):
            matrix = weight * factors[:, None]
            got = rows[way] @ grid.rounded(matrix, grid.scales(matrix))
            off[way] += float(np.square(got - exact).sum())
    return [float(np.sqrt(each / whole)) for each in off]


def _strongest(weight: Array) -> Array:
    return np.asarray(np.abs(weight).max(axis=1))
