"""CUDA sources → machine code for one architecture, by NVRTC. No GPU is needed for that."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from ..cache import cache_folder
from ..errors import UserError, unknown
from .native import import_cuda, native_errors

FOLDER = Path(__file__).parent
SOURCES = tuple(sorted(path.stem for path in FOLDER.glob("*.cu")))
MAX_CACHE_BYTES = 256 << 20

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def read_source(name: str) -> str:
    """The text of `name`.cu, with our own headers in place.

    Raises:
        UserError: no source of that name.
    """
    if name not in SOURCES:
        raise UserError(unknown("kernel source", name, SOURCES))
    return _expand(FOLDER / f"{name}.cu", set())


def _expand(path: Path, seen: set[str]) -> str:
    def include(match: re.Match[str]) -> str:
        header = match[1]
        if header in seen:
            return ""
        seen.add(header)
        return _expand(FOLDER / header, seen)

    text = path.read_text().replace("#pragma once\n", "")
    return f'#line 1 "{path.name}"\n' + _INCLUDE.sub(include, text)


def compile_source(text: str, name: str, arch: str) -> bytes:
    """A cubin of CUDA C++, from the cache on disk if it is there.

    The cache's key is a hash of source, options and NVRTC's version. Nothing is fused: a multiply
    and an add round twice, as they do in NumPy.

    Args:
        text: the whole source.
        name: of the source, for messages.
        arch: one of `architectures()`.

    Raises:
        MissingExtraError: cuda-core or NVRTC is not installed.
        UserError: an architecture that this NVRTC does not know, or a cache that cannot be written.
        MutoscopeError: it does not compile; the message holds the compiler's log.
    """
    if arch not in architectures():
        raise UserError(unknown("architecture", arch, architectures()))
    core, utils = import_cuda("core"), import_cuda("core.utils")
    options = core.ProgramOptions(name=f"{name}.cu", arch=arch, std="c++17", fma=False)
    try:
        kept = utils.FileStreamProgramCache(cache_folder("kernels"), max_size_bytes=MAX_CACHE_BYTES)
    except OSError as error:
        raise UserError(f"no place for compiled kernels; set MUTOSCOPE_CACHE: {error}") from error
    with kept, native_errors(f"nvrtcCompileProgram({name}.cu, {arch})"):
        return bytes(core.Program(text, "c++", options).compile("cubin", cache=kept).code)


@cache
def architectures() -> tuple[str, ...]:
    """Those that the installed NVRTC compiles for, such as "sm_89".

    Raises:
        MissingExtraError: NVRTC is not installed.
    """
    (numbers,) = _ask("nvrtcGetSupportedArchs")
    return tuple(f"sm_{number}" for number in numbers)


@cache
def nvrtc_version() -> str:
    """Such as "13.5".

    Raises:
        MissingExtraError: NVRTC is not installed.
    """
    return "{}.{}".format(*_ask("nvrtcVersion"))


def _ask(call: str) -> tuple[Any, ...]:
    nvrtc = import_cuda("bindings.nvrtc")
    with native_errors(call):
        status, *answers = getattr(nvrtc, call)()
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(status.name)
    return tuple(answers)
