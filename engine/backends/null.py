"""The null backend: zeros of the right shapes. Orchestration can be tested without an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..bundle import Bundle
from ..lora import Lora
from ..manifest import TensorSpec
from ..open import EngineOptions
from ..session import Session, Tensor, axis_length, check_feeds


class NullSession(Session):
    """Answers with zeros; counts its runs in `runs`."""

    runs = 0

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        axes = check_feeds(self.name, self.inputs, feeds)
        self.runs += 1
        return {name: _zeros(spec, axes) for name, spec in self.outputs.items()}

    def close(self) -> None:
        """Nothing is held."""


def _zeros(spec: TensorSpec, axes: Mapping[str, int]) -> Tensor:
    return np.zeros([axis_length(axis, axes) for axis in spec.shape], spec.dtype)


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> NullSession:
    """Open a graph without reading it."""
    return NullSession(name, bundle.graph(name))


def check_loras(bundle: Bundle, loras: Sequence[Lora]) -> None:
    """Take any: no weight is read."""
