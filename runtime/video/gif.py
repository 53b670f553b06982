"""GIF: one palette made for the whole clip, which therefore is seen twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from .encoders import Encoder
from .formats import Format
from .graph import FilterGraph
from .sink import Frame
from .spec import ClipSpec
from .videofile import VideoFile

# Ordered dither stays still where the picture does, and packs better.
_USE_PALETTE = "paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"


class GifSink:
    """Keeps the frames on disk while it counts colours, then maps each to the palette.

    Memory does not grow with the number of frames.
    """

    def __init__(self, path: Path, format_: Format, encoder: Encoder, spec: ClipSpec) -> None:
        self._size = (spec.width, spec.height)
        self._file = VideoFile(path, format_, encoder, spec)
        self._frames = TemporaryFile(dir=path.parent)  # noqa: SIM115 closed by finish and abandon
        self._make_palette = FilterGraph(*self._size, "palettegen")

    def write(self, frame: Frame) -> None:
        """Take the next frame."""
        self._frames.write(frame.tobytes())
        for _ in self._make_palette(frame):
            pass

    def finish(self) -> Iterator[None]:
        """Choose the palette, and write every frame with it, a step each."""
        (palette,) = self._make_palette(None)
        use_palette = FilterGraph(*self._size, _USE_PALETTE, palette=palette)
        self._frames.seek(0)
        for frame in self._spooled():
            for picture in use_palette(frame):
                self._file.encode(picture)
            yield
        self._frames.close()
        for picture in use_palette(None):
            self._file.encode(picture)
        yield from self._file.finish()

    def abandon(self) -> None:
        """Drop the frames and close the file."""
        self._frames.close()
        self._file.abandon()

    def _spooled(self) -> Iterator[Frame]:
        width, height = self._size
        while data := self._frames.read(height * width * 3):
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
