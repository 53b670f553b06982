"""Pictures in a GPU's memory, for encoders that read them there: nothing passes through the host.

NVENC wants both planes in one piece, which is what `kernels.yuv` describes.
"""

from __future__ import annotations

import av
from av.video.frame import CudaContext

from ...kernels.device import Device, DeviceArray
from .encoders import Encoder
from .failures import reason
from .feed import Feed
from .spec import ClipSpec


class DevicePictures:
    """Makes FFmpeg's pictures of NV12 or P010 codes, where they lie."""

    def __init__(self, device: Device, layout: str) -> None:
        self._device, self._layout = device, layout
        # FFmpeg refuses a primary context that is in use with other flags than its own; cuda-core
        # has activated it by now, and it is this thread's
        self._context = CudaContext(primary_ctx=False, current_ctx=True)

    def __call__(self, codes: DeviceArray) -> av.VideoFrame:
        """The picture of (height / 2 * 3, width), which must be ready, and stay as it is."""
        self._device.set_current()
        rows = codes.shape[0]
        planes = codes.rows(0, rows // 3 * 2), codes.rows(rows // 3 * 2, rows)
        return av.VideoFrame.from_dlpack(planes, format=self._layout, cuda_context=self._context)


def failure(encoder: Encoder, spec: ClipSpec, feed: Feed) -> str | None:
    """Encode one picture from the GPU's memory: why that fails, or `None`."""
    assert feed.surfaces is not None
    try:
        codes = feed.surfaces.take(feed.shape(spec.height, spec.width), feed.dtype)
        picture = DevicePictures(feed.surfaces.stream.device, feed.layout)(codes)
        picture.pts = 0
        context = encoder.context(spec)
        context.pix_fmt = picture.format.name
        packets = [*context.encode(picture), *context.encode(None)]
    except Exception as error:  # whatever it is, the way through the host remains
        return reason(error)
    return None if packets else "it gave no picture"
