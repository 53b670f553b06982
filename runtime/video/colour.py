"""RGB to what encoders take, and back: BT.709, limited range, 4:2:0."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from .sink import Frame

# Bicubic; full chroma resolution on the way; rounded correctly, and alike on every CPU.
_SWSCALE_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000


class YuvConverter:
    """Turns RGB frames into BT.709 pictures of one layout (yuv420p or nv12) with even sides."""

    def __init__(self, pix_fmt: str) -> None:
        self._pix_fmt = pix_fmt
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Frame) -> av.VideoFrame:
        """Convert uint8 (height, width, 3); an odd side gets its last row or column twice."""
        return self._reformatter.reformat(
            rgb_picture(_even(frame)),
            format=self._pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SWSCALE_FLAGS,
        )


class RgbConverter:
    """Turns decoded pictures of any layout into RGB frames, by the matrix they are tagged with."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> Frame:
        """Convert to uint8 (height, width, 3)."""
        rgb = self._reformatter.reformat(picture, format="rgb24", interpolation=_SWSCALE_FLAGS)
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


def rgb_picture(frame: Frame) -> av.VideoFrame:
    """The frame, uint8 (height, width, 3), as FFmpeg's picture."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")


def _even(frame: Frame) -> Frame:
    height, width, _ = frame.shape
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
