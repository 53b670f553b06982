"""What a family says of one graph: its interface, the module behind it, where its weights lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..engine.manifest import LoraSpec, Precision, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .checkpoint import Component

Skeleton = Callable[[], AbstractContextManager[object]]
"""Inside the context it gives, modules are built with parameters that have shapes and no memory."""


def keep(name: str, weight: Tensor) -> Tensor:
    """Leave a weight as the checkpoint has it."""
    del name
    return weight


@dataclass(frozen=True)
class Graph:
    """One graph to be exported.

    Attributes:
        name: as in the bundle.
        component: the part of the checkpoint that holds its weights.
        build: makes the module to trace. Parameters below the attribute `model` have the names that
            they have in the checkpoint; the module's inputs and outputs are plain tensors in the
            order of `inputs` and `outputs`.
        inputs, outputs: the interface. An axis is a length, `name`, or `K*name`: K times another.
        steps: named axes that only take multiples of a number, as patches make of them.
        largest: the upper end of named axes.
        data: the file of the weights; graphs of one component share it.
        change: maps a checkpoint's weight to the module's.
        precision: the graph's, for the bundle's manifest.
        lora: how LoRAs find its weights, for the manifest; every weight is then kept by its name.
    """

    name: str
    component: Component
    build: Callable[[Skeleton], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    data: str
    precision: Precision
    steps: Mapping[str, int] = field(default_factory=dict)
    largest: Mapping[str, int] = field(default_factory=dict)
    change: Callable[[str, Tensor], Tensor] = keep
    lora: LoraSpec | None = None

    @property
    def file(self) -> str:
        """The graph's file in the bundle."""
        return f"{self.name}.onnx"


def split_axis(axis: str) -> tuple[int, str]:
    """`8*latent_height` → (8, "latent_height"), `latent_height` → (1, "latent_height")."""
    factor, star, name = axis.partition("*")
    return (int(factor), name) if star else (1, axis)
