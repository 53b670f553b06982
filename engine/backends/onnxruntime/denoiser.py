"""A denoiser on the CPU: what it makes of a prompt is computed once, all else in each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...lora import Merged
from ...manifest import PROMPT, GraphSpec, Precision
from ...onnx_file import OnnxFile, parse
from ...open import EngineOptions
from ...session import Tensor
from .blocked import fits_blocks
from .native_operators import own_kernels, own_operators
from .padding import BIAS, shorten
from .products import fits_products, multiply_in_bf16, multiply_rest, pack
from .rewrite import Parts, rewrite
from .session import OnnxRuntimeSession, check_interface, open_native, own_content, package

KEPT = 2
"""Prompts: with guidance in two runs a step there are two."""

CODES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(int64)": 7}
"""Of types of elements in ONNX, by ONNX Runtime's names."""

Arrays = dict[str, NDArray[Any]]


class DenoiserSession(OnnxRuntimeSession):
    """A step's part of a denoiser behind the session protocol, and the prompt's part before it."""

    def __init__(self, name: str, interface: GraphSpec, parts: Parts) -> None:
        """Take natively opened parts."""
        super().__init__(name, interface, parts.step)
        self._prompt, self._between, self._padded = parts.prompt, parts.between, parts.padded
        self._of_prompt = {tensor.name for tensor in parts.prompt.get_inputs()}
        self._of_step = {tensor.name for tensor in parts.step.get_inputs()} & self.inputs.keys()
        self._kept: list[tuple[Arrays, dict[str, Tensor]]] = []

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prompt = {name: np.asarray(feeds[name]) for name in self._of_prompt}
        step = {name: feeds[name] for name in self._of_step}
        return self._compute(self._native, {**step, **self._made_of(prompt)}, self.outputs)

    def _made_of(self, prompt: Arrays) -> dict[str, Tensor]:
        """What a step takes of a prompt; of the last ones it is still there."""
        for known, made in self._kept:
            if all(np.array_equal(known[name], array) for name, array in prompt.items()):
                return made
        given, bias = dict(prompt), {}
        if self._padded:
            given[PROMPT], bias[BIAS] = shorten(prompt[PROMPT])
        made = {**self._compute(self._prompt, given, self._between), **bias}
        copies = {name: array.copy() for name, array in prompt.items()}
        self._kept = [(copies, made), *self._kept][:KEPT]
        return made

    def close(self) -> None:
        """Give back the memory. A second call does nothing."""
        self._prompt, self._kept = None, []
        super().close()


def open_denoiser(
    bundle: Bundle, name: str, options: EngineOptions, content: Merged | None = None
) -> OnnxRuntimeSession:
    """Open a denoiser on the CPU, with other content than its file has where it is given.

    Raises as `open_session`.
    """
    package()  # before anything is read
    interface = bundle.graph(name)
    path = bundle.file(interface.file)
    content = content or own_content(bundle, name, options)
    model = parse(content.model if content else path.read_bytes(), path)
    check_interface(path, interface, model.graph.input, model.graph.output)
    weights = dict(content.weights) if content else {}
    spec = bundle.manifest.denoiser
    blocked, products = fits_blocks(model, spec), fits_products(model)
    operators = own_operators() if blocked or products else None
    parts = rewrite(model, spec, blocked=blocked and operators is not None)
    own = [part for part in (parts.step, parts.prompt) if part is not None]
    if operators is not None:
        file = OnnxFile(bundle, name)
        for part in own:
            multiply_in_bf16(part)
            if blocked:
                rest = multiply_rest(part, file)
                weights |= {new: pack(file.read(stored)) for new, stored in rest.items()}
    opened = partial(_open, path, interface.precision, options, weights)
    session: OnnxRuntimeSession
    if parts.prompt is None:
        session = OnnxRuntimeSession(name, interface, opened(parts.step, operators))
    else:
        prompt = opened(parts.prompt, operators)
        _say_types(parts, prompt)
        step = opened(parts.step, operators)
        session = DenoiserSession(name, interface, replace(parts, step=step, prompt=prompt))
    session.kernels = own_kernels(*own)
    return session


def _open(
    path: Path,
    precision: Precision,
    options: EngineOptions,
    weights: Arrays,
    model: Any,
    operators: Path | None = None,
) -> Any:
    own = {tensor.name for tensor in model.graph.initializer}
    chosen = {name: weight for name, weight in weights.items() if name in own}
    content = Merged(model.SerializeToString(), chosen)
    return open_native(path, precision, options, content, operators=operators)


def _say_types(parts: Parts, prompt: Any) -> None:
    """Let a step's part say what it takes from the prompt's, now that ONNX Runtime knows."""
    types = {tensor.name: tensor.type for tensor in prompt.get_outputs()}
    for tensor in parts.step.graph.input:
        if tensor.name in types:
            tensor.type.tensor_type.elem_type = CODES[types[tensor.name]]
