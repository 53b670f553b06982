"""GIF: one palette made for the whole clip, which therefore is seen twice."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import cast

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from .colour import rgb_picture
from .encoders import Encoder
from .failures import codec_errors
from .formats import Format
from .sink import Frame
from .spec import ClipSpec
from .videofile import VideoFile


class GifSink:
    """Keeps the frames on disk while it counts colours, then maps each to the palette.

    Memory does not grow with the number of frames.
    """

    def __init__(self, path: Path, format_: Format, encoder: Encoder, spec: ClipSpec) -> None:
        self._shape = (spec.height, spec.width, 3)
        self._file = VideoFile(path, format_, encoder, spec)
        self._frames = TemporaryFile(dir=path.parent)  # noqa: SIM115 closed by finish and abandon
        self._colours = _Palette(spec)
        self._spec = spec

    def write(self, frame: Frame) -> None:
        """Take the next frame."""
        self._frames.write(frame.tobytes())
        self._colours.add(frame)

    def finish(self) -> Iterator[None]:
        """Choose the palette, and write every frame with it, a step each."""
        mapper = _PaletteMapper(self._spec, self._colours.result())
        self._frames.seek(0)
        for frame in self._spooled():
            for picture in mapper(frame):
                self._file.encode(picture)
            yield
        for picture in mapper(None):
            self._file.encode(picture)
        self._frames.close()
        yield from self._file.finish()

    def abandon(self) -> None:
        """Drop the frames and close the file."""
        self._frames.close()
        self._file.abandon()

    def _spooled(self) -> Iterator[Frame]:
        height, width, channels = self._shape
        while data := self._frames.read(height * width * channels):
            yield np.frombuffer(data, np.uint8).reshape(self._shape)


class _Palette:
    """FFmpeg's palettegen: at most 256 colours, cut from those of all frames."""

    def __init__(self, spec: ClipSpec) -> None:
        self._graph = Graph()
        self._source = _source(self._graph, spec.width, spec.height, "rgb24", spec.rate)
        self._sink = self._graph.add("buffersink")
        self._graph.link_nodes(self._source, self._graph.add("palettegen"), self._sink)
        self._graph.configure()

    def add(self, frame: Frame) -> None:
        with codec_errors("palettegen"):
            self._source.push(rgb_picture(frame))

    def result(self) -> av.VideoFrame:
        with codec_errors("palettegen"):
            self._source.push(None)
            return cast("av.VideoFrame", self._sink.pull())


class _PaletteMapper:
    """FFmpeg's paletteuse. Ordered dither stays still where the picture does, and packs better."""

    def __init__(self, spec: ClipSpec, palette: av.VideoFrame) -> None:
        graph = Graph()
        self._graph = graph
        self._count = 0
        self._source = _source(graph, spec.width, spec.height, "rgb24", spec.rate)
        colours = _source(graph, palette.width, palette.height, palette.format.name, spec.rate)
        use = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle")
        self._sink = graph.add("buffersink")
        self._source.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        use.link_to(self._sink)
        graph.configure()
        palette.pts = 0
        colours.push(palette)
        colours.push(None)

    def __call__(self, frame: Frame | None) -> Iterator[av.VideoFrame]:
        with codec_errors("paletteuse"):
            self._source.push(None if frame is None else self._timed(frame))
            while True:
                try:
                    picture = self._sink.pull()
                except (av.BlockingIOError, av.EOFError):
                    return
                yield cast("av.VideoFrame", picture)

    def _timed(self, frame: Frame) -> av.VideoFrame:
        picture = rgb_picture(frame)
        picture.pts = self._count
        self._count += 1
        return picture


def _source(graph: Graph, width: int, height: int, pix_fmt: str, rate: Fraction) -> FilterContext:
    layout = av.VideoFormat(pix_fmt, width, height)
    return graph.add_buffer(width=width, height=height, format=layout, time_base=1 / rate)
