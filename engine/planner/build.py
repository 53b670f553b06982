"""The memory that building a TensorRT engine takes, roughly: docs/real-size.md."""

from __future__ import annotations

from ..bundle import Bundle
from .graph import BYTES, read_graph

BUILD, BUILD_FACTOR = 400 << 20, 3
"""A build takes this, and so many times the weights."""


def build_memory(weights: int) -> int:
    """Bytes, for an engine with so many bytes of weights."""
    return BUILD + BUILD_FACTOR * weights


def weights_of(bundle: Bundle, name: str) -> int:
    """Bytes of a graph's weights, as they are stored.

    Raises:
        BundleError: it is no ONNX file.
        MissingExtraError: the package `protobuf` is not installed.
    """
    values = read_graph(bundle, name).initializers.values()
    return int(sum(value.elements * BYTES[value.code] for value in values))
