"""An encoder of text or images on the CPU."""

from __future__ import annotations

from dataclasses import replace

from ...bundle import Bundle
from ...lora import Merged
from ...manifest import WHOLE
from ...onnx_file import parse
from ...open import EngineOptions
from .native_operators import own_kernels, own_operators
from .parts import open_in_parts, too_large
from .products import fits_products, multiply_in_bf16
from .session import OnnxRuntimeSession, open_checked


def open_encoder(
    bundle: Bundle, name: str, options: EngineOptions, content: Merged | None = None
) -> OnnxRuntimeSession:
    """Open it, with other content than its file has where it is given.

    Products with weights of few bits are our own operator's, if it is to be had. What is larger
    than the memory is opened in parts at each run.

    Raises as `open_session`.
    """
    interface = bundle.graph(name)
    operators = None
    kernels: tuple[str, ...] = ()
    if content is not None or interface.precision not in WHOLE:
        path = bundle.file(interface.file)
        content = content or Merged(path.read_bytes(), {})
        model = parse(content.model, path)
        operators = own_operators() if fits_products(model) else None
        if operators is not None:
            multiply_in_bf16(model)
            content, kernels = replace(content, model=model.SerializeToString()), own_kernels(model)
    elif too_large(bundle, name):
        return open_in_parts(bundle, name, options)
    native = open_checked(bundle, name, options, interface, content, operators=operators)
    session = OnnxRuntimeSession(name, interface, native)
    session.kernels = kernels
    return session
