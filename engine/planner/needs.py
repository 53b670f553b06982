"""What one graph takes."""

from __future__ import annotations

from dataclasses import dataclass

from .peak import Peak
from .weights import Weights


@dataclass(frozen=True)
class Needs:
    """What one graph takes.

    Attributes:
        nodes: how many there are in the file.
        cpu: with ONNX Runtime on the CPU.
        gpu: with an engine that keeps no attention scores, every type in its own width.
        inputs: bytes that the caller holds.
        weights: what is known of them beside their size.
    """

    nodes: int
    cpu: Peak
    gpu: Peak
    inputs: int
    weights: Weights
