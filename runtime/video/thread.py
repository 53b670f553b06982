"""Encode in a thread of its own, while the next frames are being made."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from .writer import ClipWriter

QUEUE_FRAMES = 8
_POLL_SECONDS = 0.05


class EncoderThread:
    """Feeds a `ClipWriter` from a bounded queue, so that memory does not grow with the clip.

    The thread opens the writer while the first frame is being made, and closes it on leaving;
    leaving by an exception, Ctrl-C included, stops within a frame and leaves no file. What fails in
    the thread is raised by the next `put`, or on leaving.
    """

    def __init__(self, writer: ClipWriter) -> None:
        self.writer = writer
        self._queue: queue.Queue[Any] = queue.Queue(QUEUE_FRAMES)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mutoscope-encoder")

    def put(self, frame: Any) -> None:
        """Hand over the next frame, as `ClipWriter.write` takes it, not to be changed after.

        Waits while the queue is full.

        Raises:
            UserError, MutoscopeError: what the writer raised.
        """
        self._send(frame)

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._send(None)
                self._thread.join()
        except BaseException:
            self.stop()
            raise
        if kind is not None:
            self.stop()
        elif self._failure is not None:
            raise self._failure

    def _send(self, item: Any | None) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            with suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_SECONDS)
                return

    def stop(self) -> None:
        """End within a frame and remove what was written; once all is written it does nothing."""
        self.writer.cancel()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join()
        self.writer.abort()

    def _run(self) -> None:
        try:
            self.writer.open()
            while (frame := self._queue.get()) is not None:
                self.writer.write(frame)
            self.writer.close()
        except BaseException as error:
            self.writer.abort()
            self._failure = error
