"""Our bundles with their denoiser's products in int8, as `mutoscope quantize` writes the fastest.

All products of the blocks, nothing smoothed and none left out for its error: what a real bundle
leaves in fp32 its own measurement says. A VAE's products are in bf16 beside such a denoiser, where
our own operator computes them.
"""

from __future__ import annotations

from ...engine import Bundle, EngineOptions, Session, Sessions
from ...engine.backends.onnxruntime import open_denoiser, open_session, open_vae
from ...engine.lora import Merged
from ...engine.manifest import DENOISERS, VAES
from ...quantize.quantizer import linears_of
from ...quantize.sensitivity import Subject
from ...quantize.tensors import Memory

BLOCKS = "blocks."
FORMAT = "int8"


class Int8Sessions(Sessions):
    """A bundle's sessions, the denoiser's in int8 and a VAE's in bf16."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        super().__init__(bundle, "onnxruntime", options)
        self._opener = Int8()


class Int8:
    """What opens a graph."""

    def open_session(self, bundle: Bundle, name: str, options: EngineOptions) -> Session:
        """Open it, and quantize it in memory before, where it is a denoiser."""
        if name in VAES:
            return open_vae(bundle, name, options, bf16=True)
        if name not in DENOISERS:
            return open_session(bundle, name, options)
        subject = Subject(bundle, name, linears_of(bundle, name), {}, (), options.threads)
        kinds = [kind for kind in subject.sizes if kind.startswith(BLOCKS)]
        memory = Memory()
        model = subject.write(dict.fromkeys(kinds, FORMAT), memory)
        return open_denoiser(bundle, name, options, Merged(model, memory.values))
