"""Our bundles with their denoiser's products in int8, as `mutoscope quantize` writes the fastest.

All products of the blocks, nothing smoothed and none left out for its error: what a real bundle
leaves in fp32 its own measurement says. Of a text encoder the weights alone are in 8 bits; a VAE's
products are in bf16 beside such a denoiser, where our own operator computes them.
"""

from __future__ import annotations

from ...engine import Bundle, EngineOptions, Session, Sessions
from ...engine.backends.onnxruntime import (
    open_denoiser,
    open_encoder,
    open_session,
    open_vae,
)
from ...engine.lora import Merged
from ...engine.manifest import DENOISERS, TEXT_ENCODER, VAES
from ...quantize.quantizer import linears_of
from ...quantize.sensitivity import Subject
from ...quantize.tensors import Memory

BLOCKS = "blocks."
FORMAT, WEIGHTS = "int8", "int8-weights"


class Int8Sessions(Sessions):
    """A bundle's sessions: the denoiser and the text encoder in int8, a VAE in bf16."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        super().__init__(bundle, "onnxruntime", options, opener=Int8())


class Int8:
    """What opens a graph."""

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Session:
        """Open it, quantized in memory where it has matrices."""
        if name in VAES:
            return open_vae(bundle, name, options, bf16=True)
        if name == TEXT_ENCODER:
            return open_encoder(bundle, name, options, _quantized(bundle, name, "", WEIGHTS))
        if name not in DENOISERS:
            return open_session(bundle, name, options)
        return open_denoiser(bundle, name, options, _quantized(bundle, name, BLOCKS, FORMAT))


def _quantized(bundle: Bundle, name: str, beginning: str, form: str) -> Merged:
    """A graph whose kinds of products that begin so are in a format."""
    subject = Subject(bundle, name, linears_of(bundle, name), {}, (), None)
    kinds = [kind for kind in subject.kinds if kind.startswith(beginning)]
    memory = Memory()
    model = subject.write(dict.fromkeys(kinds, form), memory)
    return Merged(model, memory.values)
