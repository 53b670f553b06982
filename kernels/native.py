"""The boundary to cuda-core: what is missing, and what fails there, in this program's words."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from ..errors import MissingExtraError, MutoscopeError


def import_cuda(module: str) -> Any:
    """A module under `cuda.`; importing one needs no driver.

    Raises:
        MissingExtraError: cuda-core, cuda-bindings or NVRTC is not installed.
    """
    try:
        return importlib.import_module(f"cuda.{module}")
    except ImportError as error:
        raise MissingExtraError("cuda-core", "kernels") from error


@contextlib.contextmanager
def native_errors(call: str) -> Iterator[None]:
    """Failures of CUDA, under the name of the call and with all that it says about them.

    Raises:
        MutoscopeError: in place of what cuda-core raises for a status that is not success.
    """
    try:
        yield
    except Exception as error:
        ours = isinstance(error, MutoscopeError)
        foreign = type(error).__module__.startswith("cuda.") or isinstance(error, RuntimeError)
        if ours or not foreign:
            raise
        text = str(error).replace("\0", "").strip()
        raise MutoscopeError(f"{call} failed: {text}") from error


def call_driver(call: str, *arguments: int) -> list[Any]:
    """What a function of CUDA's driver answers beside its status.

    Raises:
        MutoscopeError: the status is not success.
    """
    driver = import_cuda("bindings.driver")
    answers: list[Any]
    status, *answers = getattr(driver, call)(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise MutoscopeError(f"{call} failed: {status.name}")
    return answers
