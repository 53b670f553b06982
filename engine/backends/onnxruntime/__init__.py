"""ONNX Runtime on the CPU.

`session` runs a graph as it stands in its bundle. A denoiser is opened in another form
(`denoiser`): attention in fewer nodes (`attention`), and what depends on the prompt alone in a
graph of its own, which runs once a prompt (`prompt`). A wide autoencoder (`vae`) takes our own
operator for its convolutions (`convolution`), where it can be had, and products with weights of few
bits (`encoder`, `products`) take another.
"""

from __future__ import annotations

from ...bundle import Bundle
from ...lora import Merged, check_loras
from ...manifest import DENOISERS, VAES, GraphSpec
from ...open import EngineOptions
from .denoiser import open_denoiser
from .encoder import open_encoder
from .session import OnnxRuntimeSession, open_checked
from .vae import open_vae

__all__ = [
    "check_loras",
    "open_changed",
    "open_denoiser",
    "open_encoder",
    "open_session",
    "open_vae",
]


def open_session(bundle: Bundle, name: str, options: EngineOptions) -> OnnxRuntimeSession:
    """Open a graph on the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        BundleError: ONNX Runtime refuses the graph.
        UserError: a LoRA does not fit.
    """
    if name in DENOISERS:
        return open_denoiser(bundle, name, options)
    if name in VAES:
        return open_vae(bundle, name, options)
    return open_encoder(bundle, name, options)


def open_changed(
    bundle: Bundle,
    name: str,
    options: EngineOptions,
    interface: GraphSpec,
    content: Merged | None,
) -> OnnxRuntimeSession:
    """Open a graph with other content than its file has, and what that takes and gives.

    Raises as `open_session`.
    """
    native = open_checked(bundle, name, options, interface, content)
    return OnnxRuntimeSession(name, interface, native)
