"""The sinks for video containers and for PNG files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from .colour import DitheringConverter, YuvConverter
from .encoders import Encoder
from .feed import RGB, Feed
from .files import sync
from .formats import FOLDER, Format
from .gif import GifSink
from .planes import HostPictures
from .png import PngEncoder, with_text
from .sink import Frame, Sink
from .spec import ClipSpec
from .videofile import VideoFile


def open_sink(path: Path, format_: Format, encoder: Encoder, spec: ClipSpec, feed: Feed) -> Sink:
    """The sink for a format, opened on the file or folder `path`; it takes what the feed says."""
    if format_ is FOLDER:
        return FolderSink(path, encoder, spec)
    if format_.still:
        return PngSink(path, encoder, spec)
    if encoder.codec == "gif":
        return GifSink(path, format_, encoder, spec)
    return VideoSink(path, format_, encoder, spec, feed)


class VideoSink:
    """Encodes as frames come."""

    def __init__(
        self, path: Path, format_: Format, encoder: Encoder, spec: ClipSpec, feed: Feed
    ) -> None:
        on_device = feed.surfaces is not None
        self._file = VideoFile(path, format_, encoder, spec, by_picture=on_device)
        self._picture = _pictures(encoder, spec, feed)

    def write(self, frame: Any) -> None:
        """Take the next frame, or picture."""
        self._file.encode(self._picture(frame))

    def finish(self) -> Iterator[None]:
        """Flush the encoder and close the file."""
        return self._file.finish()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.abandon()


class PngSink:
    """Writes one frame to one PNG file, with the metadata as text in it."""

    def __init__(self, path: Path, encoder: Encoder, spec: ClipSpec) -> None:
        self._path = path
        self._metadata = spec.metadata
        self._encode = PngEncoder(encoder, spec)

    def write(self, frame: Frame) -> None:
        """Take the frame."""
        self._path.write_bytes(with_text(self._encode(frame), self._metadata))

    def finish(self) -> Iterator[None]:
        """Do nothing: the file is whole."""
        return iter(())

    def abandon(self) -> None:
        """Do nothing: no file is open."""


class FolderSink:
    """Writes 0001.png, 0002.png and so on into a folder, the metadata into the first."""

    def __init__(self, path: Path, encoder: Encoder, spec: ClipSpec) -> None:
        self._path = path
        self._metadata = spec.metadata
        self._digits = max(4, len(str(spec.frames)))
        self._encode = PngEncoder(encoder, spec)
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Take the next frame."""
        self._count += 1
        png = self._encode(frame)
        path = self._path / f"{self._count:0{self._digits}}.png"
        path.write_bytes(with_text(png, self._metadata) if self._count == 1 else png)
        sync(path)

    def finish(self) -> Iterator[None]:
        """Do nothing: every file is whole."""
        return iter(())

    def abandon(self) -> None:
        """Do nothing: no file is open."""


def _pictures(encoder: Encoder, spec: ClipSpec, feed: Feed) -> Callable[[Any], av.VideoFrame]:
    """What makes FFmpeg's pictures of what is fed."""
    layout = encoder.layout(spec)
    if feed == RGB and spec.dithered:
        return DitheringConverter(layout)
    if feed == RGB:
        return YuvConverter(spec.width, spec.height, layout)
    if feed.surfaces is None:
        return HostPictures(layout)
    from .device import DevicePictures

    return DevicePictures(feed.surfaces.stream.device, feed.layout)
