"""Open one graph of a bundle on a backend, found by its name."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Protocol, cast

from ..errors import UserError, unknown
from .bundle import Bundle
from .session import Session

BACKENDS = ("onnxruntime", "tensorrt", "tensorrt-rtx", "null")


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine.

    Attributes:
        threads: CPU threads for one run, at most one a core; `None` means all that there are.
    """

    threads: int | None = None

    def __post_init__(self) -> None:
        most = os.cpu_count() or 1
        if self.threads is not None and self.threads not in range(1, most + 1):
            raise UserError(f"threads must be between 1 and {most} here, not {self.threads!r}")


class Backend(Protocol):
    """What a file under `backends/` offers."""

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Session:
        """Open one graph."""


def find_backend(name: str) -> Backend:
    """The backend of that name; its package is imported only when a session is opened.

    Raises:
        UserError: there is none of that name.
    """
    if name not in BACKENDS:
        raise UserError(unknown("backend", name, BACKENDS))
    module = name.replace("-", "_")
    return cast("Backend", importlib.import_module(f"{__package__}.backends.{module}"))


def open_graph(
    bundle: Bundle,
    name: str,
    *,
    backend: str = "onnxruntime",
    options: EngineOptions | None = None,
) -> Session:
    """Open the graph `name` of a bundle.

    Raises:
        UserError: an unknown backend or graph, or the backend's package is not installed.
        MutoscopeError: the backend cannot open the graph.
    """
    return find_backend(backend).open_session(bundle, name, options or EngineOptions())
