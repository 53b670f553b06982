"""RGB to what encoders take, and back: BT.709, limited range, 4:2:0."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ...kernels.frames import from_rgb8
from ...kernels.yuv import to_nv12, to_p010
from .graph import FilterGraph
from .planes import HostPictures
from .sink import Frame

# Bicubic; full chroma resolution on the way; rounded correctly, and alike on every CPU.
_FLAGS = "bicubic+full_chroma_int+full_chroma_inp+accurate_rnd+bitexact"
_FLAG_BITS = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000


class YuvConverter:
    """Turns RGB frames into BT.709 pictures of one layout (yuv420p or nv12) with even sides.

    Chroma samples lie at the left of their pixels, as players take it for all these codecs.
    """

    def __init__(self, width: int, height: int, pix_fmt: str) -> None:
        scale = f"out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags={_FLAGS}"
        even = (width + width % 2, height + height % 2)
        self._graph = FilterGraph(*even, f"scale={scale}", f"format=pix_fmts={pix_fmt}")

    def __call__(self, frame: Frame) -> av.VideoFrame:
        """Convert uint8 (height, width, 3); an odd side gets its last row or column twice."""
        height, width, _ = frame.shape
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        (picture,) = self._graph(frame)
        return picture


class DitheringConverter:
    """Turns RGB frames into the same, rounded by a pattern: as `kernels.yuv` states it."""

    def __init__(self, pix_fmt: str) -> None:
        self._round = to_p010 if pix_fmt in ("p010le", "yuv420p10le") else to_nv12
        self._picture = HostPictures(pix_fmt)

    def __call__(self, frame: Frame) -> av.VideoFrame:
        """Convert uint8 (height, width, 3); an odd side gets its last row or column twice."""
        return self._picture(self._round(from_rgb8(frame[None]), dithered=True)[0])


class RgbConverter:
    """Turns decoded pictures of any layout into RGB frames, by the matrix they are tagged with."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> Frame:
        """Convert to uint8 (height, width, 3)."""
        rgb = self._reformatter.reformat(picture, format="rgb24", interpolation=_FLAG_BITS)
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)
