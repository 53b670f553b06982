"""Attention with scores in int8 on a GPU: our own operator, in the place of `Attention` nodes.

`Int8Attention` (`native/int8_attention.cpp`) launches the kernels of `kernels/` on the stream of
ONNX Runtime's CUDA provider. Its library holds their machine code for one architecture.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ....errors import MutoscopeError, UserError
from ....kernels.attention_ops import machine_code
from ...int8_attention import replace_attention
from .native_operators import COMPILER, build

SOURCES = ("int8_attention.cpp",)
FLAGS: tuple[str, ...] = ()
"""For the compiler; by them tests put a CPU in the GPU's place."""


def attend_in_int8(model: Any) -> None:
    """Put the operator in the place of a graph's attention.

    Args:
        model: of its ONNX file; changed.

    Raises:
        BundleError: there is none that it can stand for.
    """
    for node in replace_attention(model):
        node.output.append(f"{node.output[0]}.workspace")


def int8_operators(arch: str) -> Path:
    """The operator's library for GPUs of an architecture, compiled unless it lies in the cache.

    Raises:
        MissingExtraError: NVRTC is not installed.
        UserError: there is no C++ compiler, or no place for the library.
        MutoscopeError: it does not compile.
    """
    if shutil.which(COMPILER) is None:
        raise UserError(
            "attention in int8 needs the system's C++ compiler for its operator; install g++, or "
            "leave out --int8-attention"
        )
    kernels = {f"{name}.cubin": code for name, code in machine_code(arch).items()}
    try:
        return build(FLAGS, SOURCES, kernels)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        raise MutoscopeError(
            f"attention in int8 does not compile: {said.strip()[-500:]}"
        ) from error
    except OSError as error:
        raise UserError(f"no place for compiled operators; set MUTOSCOPE_CACHE: {error}") from error
