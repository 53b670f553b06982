"""TensorRT, and TensorRT for RTX: one API, two packages."""

from __future__ import annotations

from ...bundle import Bundle
from ...open import EngineOptions
from ...store import EngineStore
from .device import Device
from .package import TENSORRT, Package
from .session import TensorRTSession


def open_with(
    package: Package, bundle: Bundle, name: str, options: EngineOptions
) -> TensorRTSession:
    """Open a graph on the first NVIDIA GPU.

    Raises:
        MissingExtraError: the package is not installed.
        UserError: there is no NVIDIA driver, or no GPU.
    """
    bundle.graph(name)
    package.load()
    device = Device(package.extra)
    return TensorRTSession(package, bundle, name, options, device, EngineStore())


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> TensorRTSession:
    """Open a graph with the package tensorrt."""
    return open_with(TENSORRT, bundle, name, options)
