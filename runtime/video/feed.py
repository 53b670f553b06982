"""What a writer is given: RGB frames, or pictures as its encoder takes them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ...kernels.device import Stream
from ...kernels.surfaces import Surfaces
from .encoders import Encoder
from .spec import ClipSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feed:
    """A layout of pictures, and where they lie.

    Attributes:
        layout: `rgb24`: uint8 (height, width, 3); `nv12`: uint8 (height / 2 * 3, width), sides
            rounded up to even ones: `kernels.yuv.to_nv12`; `p010le`: uint16, likewise.
        surfaces: of the GPU in whose memory they stay; `None`: they lie on the host.
        dithered: rounded by a pattern.
    """

    layout: str
    surfaces: Surfaces | None = None
    dithered: bool = False

    @property
    def label(self) -> str:
        """What a record calls it."""
        return self.layout if self.surfaces is None else f"{self.layout} in GPU memory"

    @property
    def dtype(self) -> str:
        """Of its codes."""
        return "uint16" if self.layout == "p010le" else "uint8"

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of one picture of frames of that size."""
        if self.layout == RGB.layout:
            return height, width, 3
        return (height + height % 2) // 2 * 3, width + width % 2


RGB = Feed("rgb24")


def choose_feed(encoder: Encoder, spec: ClipSpec, stream: Stream | None) -> Feed:
    """What to give an encoder of frames that are made on a GPU's stream; of the host's, RGB.

    What encodes 4:2:0 is given that, half of the bytes; and an encoder on the GPU reads it there,
    if it can: one picture tells. What is dithered is given so from the host too: a pattern hides
    only what has not been rounded yet.
    """
    if not encoder.subsampled or (stream is None and not spec.dithered):
        return RGB
    on_host = Feed("p010le" if spec.depth == 10 else "nv12", dithered=spec.dithered)
    if stream is None or not encoder.reads_gpu_memory:
        return on_host
    from .device import failure

    there = replace(on_host, surfaces=Surfaces(stream))
    problem = failure(encoder, spec, there)
    if problem is None:
        return there
    log.info(
        "%s cannot read frames in GPU memory here (%s); they go through the host",
        encoder.name,
        problem,
    )
    return on_host
