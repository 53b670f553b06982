"""Pictures of 4:2:0 on the host, in the layout that an encoder takes; no code changes.

NV12 and P010 hold Cb and Cr in pairs, P010 in the upper 10 of 16 bits; yuv420p has them apart, and
10 bits in the lower ones.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


class HostPictures:
    """Makes FFmpeg's pictures of NV12 or P010 codes."""

    def __init__(self, pix_fmt: str) -> None:
        self._pix_fmt = pix_fmt

    def __call__(self, codes: NDArray[Any]) -> av.VideoFrame:
        """The picture of uint8 or uint16 (height / 2 * 3, width)."""
        luma, chroma = np.split(codes, [len(codes) // 3 * 2])
        if self._pix_fmt in ("nv12", "p010le"):
            return av.VideoFrame.from_dlpack((luma, chroma), format=self._pix_fmt)
        planes = (luma, chroma[:, 0::2], chroma[:, 1::2])
        apart = np.concatenate([plane.ravel() for plane in planes]).reshape(codes.shape)
        if apart.dtype == np.uint16:
            apart >>= 6
        return av.VideoFrame.from_ndarray(apart, format=self._pix_fmt)
