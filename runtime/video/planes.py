"""Pictures of 4:2:0 on the host, in the layout that an encoder takes; no code changes."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


class HostPictures:
    """Makes FFmpeg's pictures of NV12 codes."""

    def __init__(self, pix_fmt: str) -> None:
        self._pix_fmt = pix_fmt

    def __call__(self, codes: NDArray[Any]) -> av.VideoFrame:
        """The picture of uint8 (height / 2 * 3, width)."""
        if self._pix_fmt == "yuv420p":
            luma, chroma = np.split(codes, [len(codes) // 3 * 2])
            planes = (luma, chroma[:, 0::2], chroma[:, 1::2])
            codes = np.concatenate([plane.ravel() for plane in planes]).reshape(codes.shape)
        return av.VideoFrame.from_ndarray(codes, format=self._pix_fmt)
