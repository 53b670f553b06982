"""Write a clip: frames in, a whole file out, or nothing at all."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...errors import MutoscopeError, UserError
from ...kernels.device import Stream
from .encoders import Encoder
from .failures import file_errors
from .feed import RGB, Feed, choose_feed
from .files import Output, OutputFile, OutputFolder
from .formats import FOLDER, Format, format_of
from .selection import announcement, choose
from .sink import Sink
from .spec import NO_DITHER, ClipSpec

log = logging.getLogger(__name__)

MAX_GIF_RATE = 50


class CancelledError(MutoscopeError):
    """The writing was called off by `ClipWriter.cancel`."""


def open_writer(
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    fps: float | Fraction,
    frames: int,
    encoder: str = "auto",
    codec: str | None = None,
    quality: int | None = None,
    depth: int = 8,
    dither: str = NO_DITHER,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> ClipWriter:
    """Check everything that can be known before the first frame, and give the writer.

    Args:
        path: .mp4, .mkv, .webm, .gif, .png (one frame), or a folder of PNG files: a name without a
            suffix or with a "/" at its end.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        fps: frames a second; GIF rounds it to hundredths of a second a frame, PNG has none.
        frames: how many there will be.
        encoder: "auto" (hardware where it works, else software), "software" or FFmpeg's name.
        codec: h264, hevc or av1 in .mp4 and .mkv, vp9 or av1 in .webm; by default the first.
        quality: 0 to 100, 75 by default; GIF and PNG have none.
        depth: bits of a channel, 8, or 10 with hevc and av1.
        dither: "none" or "bayer", for video.
        metadata: tags of the file, such as title and comment. GIF has no place for them.
        overwrite: replace what has the name.

    Raises:
        UserError: one of these cannot be.
    """
    format_ = format_of(path)
    size = {"width": width, "height": height, "frames": frames, "depth": depth}
    spec = ClipSpec.checked(**size, fps=fps, quality=quality, metadata=metadata, dither=dither)
    _check_fits(format_, spec, quality)
    kind = OutputFolder if format_ is FOLDER else OutputFile
    output = kind(Path(path), overwrite=overwrite)
    chosen = choose(format_, codec, encoder, spec)
    note = announcement(chosen) if encoder == "auto" else None
    return ClipWriter(output, format_, chosen, spec, note)


class ClipWriter:
    """Writes the frames of one clip. Use it in a `with`: leaving by an exception leaves nothing.

    Attributes:
        path: where the clip will be.
        format: what kind of file it is.
        encoder: which encoder writes it.
        spec: what the clip is to be.
        feed: what `write` takes.
        seconds: time spent on opening, encoding and writing so far.
    """

    def __init__(
        self,
        output: Output,
        format_: Format,
        encoder: Encoder,
        spec: ClipSpec,
        note: str | None = None,
    ) -> None:
        self.path = output.path
        self.format = format_
        self.encoder = encoder
        self.spec = spec
        self.feed = RGB
        self.seconds = 0.0
        self._note = note
        self._output = output
        self._sink: Sink | None = None
        self._count = 0
        self._cancelled = threading.Event()

    def feed_from(self, stream: Stream | None) -> Feed:
        """Choose, before `open`, what `write` takes of frames that a stream of a GPU makes."""
        self.feed = choose_feed(self.encoder, self.spec, stream)
        return self.feed

    def open(self) -> None:
        """Make the temporary file and open the encoder.

        Raises:
            UserError: the file cannot be made, or the encoder refuses the size.
        """
        from .sinks import open_sink

        start = time.perf_counter()
        try:
            with file_errors(self.path):
                part = self._output.begin()
                self._sink = open_sink(part, self.format, self.encoder, self.spec, self.feed)
        except BaseException:
            self.abort()
            raise
        if self._note:
            log.info("%s", self._note)
        self._log_padding()
        self.seconds += time.perf_counter() - start

    def write(self, frame: Any) -> None:
        """Write the next frame, uint8 (height, width, 3), RGB, or a picture as the feed says.

        Raises:
            UserError: the disk is full, or the system refuses in another way.
            MutoscopeError: the frame is not what was announced, or the encoder failed.
            CancelledError: `cancel` was called.
        """
        self._check(frame)
        start = time.perf_counter()
        with file_errors(self.path):
            self._opened().write(frame)
        self._count += 1
        self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """Write the rest, sync, and give the file its name; on failure remove what was written.

        Raises:
            UserError: the disk is full, the name was taken meanwhile, and so on.
            MutoscopeError: frames are missing, or the encoder failed.
            CancelledError: `cancel` was called.
        """
        start = time.perf_counter()
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self._sink = None
        self.seconds += time.perf_counter() - start

    def abort(self) -> None:
        """Remove what was written. After `close` it does nothing."""
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None
        self._output.discard()

    def cancel(self) -> None:
        """Make `write` and `close`, in another thread too, end at once with `CancelledError`."""
        self._cancelled.set()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _finish(self) -> None:
        if self._count != self.spec.frames:
            raise MutoscopeError(
                f"{self._count} frames written to {self.path}, {self.spec.frames} announced"
            )
        with file_errors(self.path):
            for _ in self._opened().finish():
                self._check_cancelled()
        self._check_cancelled()
        self._output.commit()

    def _opened(self) -> Sink:
        if self._sink is None:
            raise MutoscopeError(f"the writer of {self.path} is not open")
        return self._sink

    def _check(self, frame: Any) -> None:
        self._check_cancelled()
        expected = self.feed.shape(self.spec.height, self.spec.width)
        if frame.shape != expected or str(frame.dtype) != self.feed.dtype:
            raise MutoscopeError(
                f"a frame is {self.feed.dtype} {expected}, this one is {frame.dtype} {frame.shape}"
            )
        if self._count == self.spec.frames:
            raise MutoscopeError(f"more than the {self.spec.frames} frames announced")

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError(f"the writing of {self.path} was called off")

    def _log_padding(self) -> None:
        asked = (self.spec.width, self.spec.height)
        stored = self.encoder.size(self.spec)
        if stored != asked:
            log.warning(
                "%s stores even sizes: the frames of %dx%d become %dx%d, their edge repeated",
                self.encoder.codec,
                *asked,
                *stored,
            )


def _check_fits(format_: Format, spec: ClipSpec, quality: int | None) -> None:
    if format_.fixed and quality is not None:
        raise UserError(f"{format_.label} has no quality to choose; leave --quality out")
    if format_.fixed and spec.dithered:
        raise UserError(f"--dither is for .mp4, .mkv and .webm; leave it out for {format_.label}")
    if format_.suffix == ".png" and spec.frames != 1:
        raise UserError(
            f".png holds one frame, the clip has {spec.frames}; "
            "write .mp4, or a folder (a name that ends in /)"
        )
    if format_.suffix == ".gif" and spec.rate > MAX_GIF_RATE:
        raise UserError(
            f".gif plays up to {MAX_GIF_RATE} frames a second, not {float(spec.rate):g}; "
            "lower --fps or write .mp4"
        )
