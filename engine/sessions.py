"""The sessions of a bundle, opened when first asked for."""

from __future__ import annotations

from .bundle import Bundle
from .closing import Closing
from .open import EngineOptions, find_backend
from .session import Session


class Sessions(Closing):
    """Opens each graph once, keeps it, and closes all of them at the end.

    Attributes:
        bundle: whose graphs.
        backend: the name of the backend that opens them.
    """

    def __init__(self, bundle: Bundle, backend: str, options: EngineOptions) -> None:
        self.bundle = bundle
        self.backend = backend
        self.options = options
        self._opener = find_backend(backend)
        self._opened: dict[str, Session] = {}

    def __call__(self, name: str) -> Session:
        """The session of the graph of that name."""
        if name not in self._opened:
            self._opened[name] = self._opener.open_session(self.bundle, name, self.options)
        return self._opened[name]

    def close(self) -> None:
        """Close every session; asked again, they open again."""
        while self._opened:
            self._opened.popitem()[1].close()
