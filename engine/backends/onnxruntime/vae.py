"""An autoencoder on the CPU: a wide one takes our own operator, where that can be had."""

from __future__ import annotations

from ...bundle import Bundle
from ...lora import Merged
from ...onnx_file import OnnxFile
from ...open import EngineOptions
from .convolution import convolve_in_blocks, fits_convolutions, in_bf16, pack
from .native_operators import own_kernels, own_operators
from .norms import normalize_at_once
from .session import OnnxRuntimeSession, open_checked, package


def open_vae(
    bundle: Bundle, name: str, options: EngineOptions, *, bf16: bool | None = None
) -> OnnxRuntimeSession:
    """Open a VAE's graph on the CPU.

    Args:
        bundle: whose it is.
        name: of the graph.
        options: the number of threads.
        bf16: whether our own operator's products are in bf16; by default as `in_bf16` says.

    Raises as `open_session`.
    """
    interface, content = bundle.graph(name), None
    package()  # before anything is read
    file = OnnxFile(bundle, name)
    operators = own_operators() if fits_convolutions(file, interface.precision) else None
    if operators is not None:
        half = in_bf16(bundle) if bf16 is None else bf16
        packed = rewrite_vae(file, bf16=half)
        weights = {new: pack(file.read(stored), bf16=half) for new, stored in packed.items()}
        content = Merged(file.serialize(), weights)
    native = open_checked(bundle, name, options, interface, content, operators=operators)
    session = OnnxRuntimeSession(name, interface, native)
    session.kernels = own_kernels(file.model)
    return session


def rewrite_vae(file: OnnxFile, *, bf16: bool) -> dict[str, str]:
    """Put our own operators into a graph, as `convolve_in_blocks` does."""
    normalize_at_once(file)
    return convolve_in_blocks(file, bf16=bf16)
