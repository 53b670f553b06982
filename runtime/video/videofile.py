"""One video stream in a container that is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import av
from av.packet import Packet
from av.video.stream import VideoStream

from ...errors import UserError
from .encoders import Encoder
from .failures import codec_errors, reason
from .formats import Format
from .scheduling import scheduled_as_before
from .spec import ClipSpec


class VideoFile:
    """A container file with one stream; pictures go in by `encode`, in order.

    `by_picture`: the first one opens the encoder, as those in a GPU's memory must.

    Raises:
        UserError: the encoder refuses the size.
    """

    def __init__(
        self,
        path: Path,
        format_: Format,
        encoder: Encoder,
        spec: ClipSpec,
        *,
        by_picture: bool = False,
    ) -> None:
        self._encoder = encoder
        self._count = 0
        options = format_.muxer_options(spec.metadata)
        self._container = av.open(str(path), "w", format=format_.muxer, container_options=options)
        self._container.metadata.update(spec.metadata)
        self._stream = self._add_stream(format_, spec)
        if not by_picture:
            self._open()
            self._container.start_encoding()

    def encode(self, picture: av.VideoFrame) -> None:
        """Encode the next picture, in the encoder's own pixel layout."""
        if not self._stream.codec_context.is_open:
            self._stream.codec_context.pix_fmt = picture.format.name
        picture.pts = self._count
        picture.time_base = self._stream.codec_context.time_base
        self._count += 1
        for packet in self._packets(picture):
            self._mux(packet)

    def finish(self) -> Iterator[None]:
        """Write what the encoder still holds, a packet a step, and close the file."""
        for packet in self._packets(None):
            self._mux(packet)
            yield
        self._container.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with suppress(av.FFmpegError):
            self._container.close()

    def _add_stream(self, format_: Format, spec: ClipSpec) -> VideoStream:
        encoder = self._encoder
        stream = cast("VideoStream", self._container.add_stream(encoder.name, rate=spec.rate))
        stream.metadata["encoder"] = encoder.name
        context = stream.codec_context
        encoder.configure(context, spec)
        if (format_.muxer, encoder.codec) == ("mp4", "hevc"):
            context.codec_tag = "hvc1"  # Apple's players take no other
        return stream

    def _open(self) -> None:
        context = self._stream.codec_context
        try:
            with scheduled_as_before():
                context.open()
        except av.FFmpegError as error:
            raise UserError(
                f"{self._encoder.name} cannot encode frames of {context.width}x{context.height} "
                f"({reason(error)}); choose another size or encoder"
            ) from error

    def _packets(self, picture: av.VideoFrame | None) -> Iterator[Packet[VideoStream]]:
        with codec_errors(self._encoder.name):
            yield from self._stream.encode_lazy(picture)

    def _mux(self, packet: Packet[VideoStream]) -> None:
        packet.stream = self._stream
        self._container.mux(packet)
