"""Open one graph of a bundle on a backend, found by its name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from ..errors import UserError, unknown
from ..kernels.device import Stream
from .bundle import Bundle
from .manifest import DENOISERS
from .session import Session

if TYPE_CHECKING:
    from .lora import Lora

COMPILING = ("onnxruntime-rtx", "tensorrt", "tensorrt-rtx")
"""Backends that compile graphs of ONNX's own operators, and know no others."""

STREAMING = ("tensorrt", "tensorrt-rtx")
"""Backends whose engines can leave weights in the host's memory."""

REFITTED = ("tensorrt", "tensorrt-rtx")
"""Backends whose engines take LoRAs only if they were built for it, on a GPU."""

INT8_ATTENTION = ("onnxruntime-cuda", "tensorrt-rtx")
"""Backends that have an operator or a plugin for it."""

BACKENDS = (
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-rtx",
    "tensorrt",
    "tensorrt-rtx",
    "null",
)


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Attributes:
        threads: CPU threads for one run, at most one a core; `None` means all that there are.
        loras: what is added to the denoiser's weights.
        weight_budget: bytes of a GPU's memory for the weights of an engine that can stream them;
            `None` leaves it to the backend.
        stream: of a GPU, which a backend's `open_stream` gave for sessions to share; `None` leaves
            it to each.
        int8_attention: compute the scores of the denoiser's attention in int8; where a backend can.
    """

    threads: int | None = None
    loras: tuple[Lora, ...] = ()
    weight_budget: int | None = None
    stream: Stream | None = None
    int8_attention: bool = False

    def __post_init__(self) -> None:
        most = os.cpu_count() or 1
        if self.threads is not None and self.threads not in range(1, most + 1):
            raise UserError(f"threads must be between 1 and {most} here, not {self.threads!r}")
        budget = self.weight_budget
        if budget is not None and (type(budget) is not int or budget < 0):
            raise UserError(f"weight_budget must be a number of bytes, not {budget!r}")


class Backend(Protocol):
    """What a file under `backends/` offers."""

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Session:
        """Open one graph."""


class LoraBackend(Backend, Protocol):
    """What a backend that can add LoRAs offers besides."""

    def check_loras(self, bundle: Bundle, loras: Sequence[Lora]) -> None:
        """Refuse LoRAs that do not fit the bundle."""


class GpuBackend(Backend, Protocol):
    """What a backend that runs on a GPU offers besides."""

    def open_stream(self) -> Stream:
        """A stream, for sessions to share."""


def find_backend(name: str) -> Backend:
    """The backend of that name; its package is imported only when a session is opened.

    Raises:
        UserError: there is none of that name.
    """
    if name not in BACKENDS:
        raise UserError(unknown("backend", name, BACKENDS))
    module = name.replace("-", "_")
    return cast("Backend", importlib.import_module(f"{__package__}.backends.{module}"))


def check_loras(bundle: Bundle, backend: str, loras: Sequence[Lora]) -> None:
    """See that a backend can add LoRAs to a bundle's weights.

    Raises:
        UserError: the backend adds none, the bundle takes none, or one is for another model.
    """
    opener = find_backend(backend)
    if loras and not hasattr(opener, "check_loras"):
        raise UserError(f"the backend {backend!r} cannot add LoRAs; use --backend onnxruntime")
    if loras:
        cast("LoraBackend", opener).check_loras(bundle, loras)


def takes_loras(bundle: Bundle, backend: str) -> bool:
    """Whether a backend adds LoRAs to the weights of a bundle's denoisers as it opens them."""
    graphs = bundle.manifest.graphs
    denoisers = [graphs[name] for name in DENOISERS if name in graphs]
    can = hasattr(find_backend(backend), "check_loras") and backend not in REFITTED
    return can and all(denoiser.takes_loras for denoiser in denoisers)


def check_options(backend: str, options: EngineOptions) -> None:
    """See that a backend can do what the options ask for.

    Raises:
        UserError: it streams no weights, or has no attention in int8.
    """
    if options.weight_budget is not None and backend not in STREAMING:
        raise UserError(
            f"the backend {backend!r} holds all weights of an engine; --weight-budget is for "
            f"{' and '.join(STREAMING)}"
        )
    if options.int8_attention and backend not in INT8_ATTENTION:
        raise UserError(
            f"the backend {backend!r} has no attention in int8; "
            f"use --backend {' or '.join(INT8_ATTENTION)}"
        )


def open_graph(
    bundle: Bundle,
    name: str,
    *,
    backend: str = "onnxruntime",
    options: EngineOptions | None = None,
) -> Session:
    """Open the graph `name` of a bundle.

    Raises:
        UserError: an unknown backend or graph, the backend's package is not installed, LoRAs
            that do not fit, or attention in int8 where the backend has none.
        MutoscopeError: the backend cannot open the graph.
    """
    options = options or EngineOptions()
    check_loras(bundle, backend, options.loras)
    check_options(backend, options)
    return find_backend(backend).open_session(bundle, name, options)
