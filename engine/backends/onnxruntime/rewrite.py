"""The forms in which graphs are opened: a denoiser on the CPU, any graph on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...manifest import DenoiserSpec
from . import attention
from .attention import fuse, leave_precision
from .blocked import attend_in_blocks
from .padding import attend_with_bias
from .prompt import split


@dataclass(frozen=True)
class Parts:
    """A denoiser as ONNX files, which are messages.

    Attributes:
        step: what runs in each step.
        prompt: what runs once a prompt; `None` where nothing depends on the prompt alone.
        between: the tensors that go from there to a step.
        padded: a step also takes `padding.BIAS`, and a prompt may come without most of its padding.
    """

    step: Any
    prompt: Any = None
    between: tuple[str, ...] = ()
    padded: bool = False


def rewrite(model: Any, denoiser: DenoiserSpec, *, blocked: bool = False) -> Parts:
    """Put a denoiser's graph into that form.

    Args:
        model: of its ONNX file; changed.
        denoiser: what its bundle says of it.
        blocked: take our own operator for attention.
    """
    fuse(model, denoiser.heads, in_blocks=denoiser.hidden_size >= attention.WIDE)
    parts = _parts(model)
    if blocked:
        attend_in_blocks(parts.step)
    return parts


def _parts(model: Any) -> Parts:
    found = split(model)
    if found is None:
        return Parts(model)
    prompt, step, between = found
    return Parts(step, prompt, tuple(between), attend_with_bias(step, prompt))


def rewrite_for_gpu(model: Any, denoiser: DenoiserSpec | None) -> None:
    """Put a graph into the form that ONNX Runtime's CUDA kernels take.

    Args:
        model: of its ONNX file; changed.
        denoiser: what its bundle says of it, if it is a denoiser.
    """
    if denoiser is not None:
        fuse(model, denoiser.heads, in_blocks=False)
    leave_precision(model)
