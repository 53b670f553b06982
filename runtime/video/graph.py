"""FFmpeg's filters: RGB frames in, pictures out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import cast

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from .failures import codec_errors
from .sink import Frame


class FilterGraph:
    """Filters in a row, each "name" or "name=options", for RGB frames of one size.

    The first may have a second input, which gets one picture: a palette.
    """

    def __init__(
        self, width: int, height: int, *filters: str, palette: av.VideoFrame | None = None
    ) -> None:
        self._name = filters[0].partition("=")[0]
        self._graph = Graph()
        self._count = 0
        self._source = self._add_source(width, height, "rgb24")
        nodes = [self._source, *map(self._add, filters), self._add("buffersink")]
        for one, next_ in pairwise(nodes):
            one.link_to(next_)
        self._sink = nodes[-1]
        self._start(nodes[1], palette)

    def __call__(self, frame: Frame | None) -> Iterator[av.VideoFrame]:
        """Push a frame, uint8 (height, width, 3), or `None` at the end; give what comes out.

        Raises:
            MutoscopeError: a filter failed.
        """
        with codec_errors(self._name):
            self._source.push(None if frame is None else self._picture(frame))
            while True:
                try:
                    picture = self._sink.pull()
                except (av.BlockingIOError, av.EOFError):
                    return
                yield cast("av.VideoFrame", picture)

    def _start(self, first: FilterContext, palette: av.VideoFrame | None) -> None:
        if palette is None:
            self._graph.configure()
            return
        source = self._add_source(palette.width, palette.height, palette.format.name)
        source.link_to(first, 0, 1)
        self._graph.configure()
        palette.pts = 0
        source.push(palette)
        source.push(None)

    def _add(self, text: str) -> FilterContext:
        name, _, options = text.partition("=")
        return self._graph.add(name, options or None)

    def _add_source(self, width: int, height: int, pix_fmt: str) -> FilterContext:
        layout = av.VideoFormat(pix_fmt, width, height)
        return self._graph.add_buffer(
            width=width, height=height, format=layout, time_base=Fraction(1)
        )

    def _picture(self, frame: Frame) -> av.VideoFrame:
        picture = rgb_picture(frame)
        picture.pts = self._count
        self._count += 1
        return picture


def rgb_picture(frame: Frame) -> av.VideoFrame:
    """The frame, uint8 (height, width, 3), as FFmpeg's picture."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
