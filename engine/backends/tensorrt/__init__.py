"""TensorRT, and TensorRT for RTX: one API, two packages."""

from __future__ import annotations

from ....kernels.device import Stream
from ....kernels.devices import open_device
from ...bundle import Bundle
from ...lora import check_loras
from ...open import EngineOptions
from ...store import EngineStore
from .package import TENSORRT, Package
from .session import TensorRTSession

__all__ = ["check_loras", "open_session", "open_stream", "open_stream_with", "open_with"]


def open_stream_with(package: Package) -> Stream:
    """A stream of the NVIDIA GPU that `kernels.devices` opens.

    Raises:
        MissingExtraError: the package is not installed, or cuda-core is not.
        UserError: there is no NVIDIA driver, or no GPU.
    """
    package.load()
    return open_device().stream()


def open_with(
    package: Package, bundle: Bundle, name: str, options: EngineOptions
) -> TensorRTSession:
    """Open a graph on the stream of the options, or on one of its own; raises as that does."""
    bundle.graph(name)
    stream = options.stream or open_stream_with(package)
    return TensorRTSession(package, bundle, name, options, stream, EngineStore())


def open_stream() -> Stream:
    """A stream of the NVIDIA GPU that `kernels.devices` opens, for sessions to share."""
    return open_stream_with(TENSORRT)


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> TensorRTSession:
    """Open a graph with the package tensorrt."""
    return open_with(TENSORRT, bundle, name, options)
