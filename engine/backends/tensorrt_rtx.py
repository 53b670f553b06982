"""TensorRT for RTX: TensorRT's code on another package."""

from __future__ import annotations

from ..bundle import Bundle
from ..open import EngineOptions
from .tensorrt import open_with
from .tensorrt.package import TENSORRT_RTX
from .tensorrt.session import TensorRTSession


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> TensorRTSession:
    """Open a graph with the package tensorrt-rtx."""
    return open_with(TENSORRT_RTX, bundle, name, options)
