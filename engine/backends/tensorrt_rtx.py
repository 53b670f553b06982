"""TensorRT for RTX: TensorRT's code on another package."""

from __future__ import annotations

from ...kernels.device import Stream
from ..bundle import Bundle
from ..lora import check_loras
from ..open import EngineOptions
from .tensorrt import open_stream_with, open_with
from .tensorrt.package import TENSORRT_RTX
from .tensorrt.session import TensorRTSession

__all__ = ["check_loras", "open_session", "open_stream"]


def open_stream() -> Stream:
    """A stream of the first NVIDIA GPU, for sessions to share."""
    return open_stream_with(TENSORRT_RTX)


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> TensorRTSession:
    """Open a graph with the package tensorrt-rtx."""
    return open_with(TENSORRT_RTX, bundle, name, options)
