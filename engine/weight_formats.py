"""What a weight of a product takes in each format that `mutoscope quantize` gives it."""

from __future__ import annotations

BLOCK = 32
"""Weights in a row that share a scale, where each channel has several."""

BYTES = {
    "int8": 1.0,
    "int8-static": 1.0,
    "fp8-static": 1.0,
    "int8-weights": 1 + 4 / BLOCK,
    "int4-weights": 0.5 + 4 / BLOCK,
}
"""Of a weight, with its share of the scales."""
