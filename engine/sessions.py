"""The sessions of a bundle, opened when first asked for."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..closing import Closing
from ..kernels.device import Stream
from .bundle import Bundle
from .manifest import TEXT_ENCODER
from .open import (
    COMPILING,
    Backend,
    EngineOptions,
    GpuBackend,
    check_loras,
    check_options,
    find_backend,
)
from .session import Session

if TYPE_CHECKING:
    from .lora import Lora


class Sessions(Closing):
    """Opens each graph once, keeps it until it is released, and closes all of them at the end.

    Attributes:
        bundle: whose graphs.
        backend: the name of the backend that opens them.
        text_backend: of the one that opens the text encoder.
        options: how.
        keep_open: whether engines that have done their part in a clip wait for the next one.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        options: EngineOptions,
        *,
        text_backend: str | None = None,
        keep_open: bool = True,
        opener: Backend | None = None,
    ) -> None:
        """Open nothing yet; `opener`, if any, is to open all graphs in the backends' place."""
        self.bundle = bundle
        self.backend = backend
        self.text_backend = text_backend or _text_backend(bundle, backend)
        self.options = options
        self.keep_open = keep_open
        self._opener = opener or find_backend(backend)
        self._text_opener = opener or find_backend(self.text_backend)
        self._opened: dict[str, Session] = {}
        self._kernels: set[str] = set()
        self._stream: Stream | None = None
        self._let_go: Callable[[], Stream | None] = lambda: None
        check_loras(bundle, backend, options.loras)
        check_options(backend, options)

    def set_loras(self, loras: tuple[Lora, ...]) -> None:
        """Change the LoRAs; what they change is closed, and opened again when it is asked for.

        Raises:
            UserError: one does not fit, or the backend adds none; those before stay.
        """
        check_loras(self.bundle, self.backend, loras)
        self.options = dataclasses.replace(self.options, loras=loras)
        for name in list(self._opened):
            if self.bundle.graph(name).lora is not None:
                self.release(name)

    @property
    def stream(self) -> Stream | None:
        """What all sessions work on, where that is a GPU; `None` on the CPU.

        Raises:
            UserError: the backend needs a GPU, and there is none.
        """
        if self.options.stream is not None or not hasattr(self._opener, "open_stream"):
            return self.options.stream
        if self._stream is None:
            self._stream = self._let_go() or cast("GpuBackend", self._opener).open_stream()
        return self._stream

    @property
    def kernels(self) -> list[str]:
        """Our own operators in the graphs that have been opened so far, beside the backends'."""
        return sorted(self._kernels)

    def __call__(self, name: str) -> Session:
        """The session of the graph of that name."""
        if name not in self._opened:
            opener = self._text_opener if name == TEXT_ENCODER else self._opener
            stream = self.stream if hasattr(opener, "open_stream") else None
            options = dataclasses.replace(self.options, stream=stream)
            self._opened[name] = opener.open_session(self.bundle, name, options)
            self._kernels.update(self._opened[name].kernels)
        return self._opened[name]

    def release(self, name: str) -> None:
        """Close the session of that graph, if it is open; asked for again, it opens again."""
        if name in self._opened:
            self._opened.pop(name).close()

    def done(self, *names: str) -> None:
        """Graphs have done their part in a clip: close them, unless they are to wait for another.

        Arrays that they gave stay valid.
        """
        if not self.keep_open:
            for name in names:
                self.release(name)

    def close(self) -> None:
        """Close every session; asked again, they open again.

        A stream of their own ends with the last array on it; until then it is the one they take.
        """
        for name in list(self._opened):
            self.release(name)
        if self._stream is not None:
            self._let_go, self._stream = weakref.ref(self._stream), None


def _text_backend(bundle: Bundle, backend: str) -> str:
    """What runs the text encoder where nothing is said: TensorRT has no weights in few bits."""
    quantization = bundle.manifest.quantization
    theirs = quantization and quantization.backend_of(TEXT_ENCODER)
    return theirs if theirs and backend in COMPILING else backend
