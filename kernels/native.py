"""The boundary to CUDA's libraries: what is missing or fails there, in this program's words."""

from __future__ import annotations

import importlib
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from ..errors import MissingExtraError, MutoscopeError, UserError

FOREIGN = ("cuda.", "pycuda.")


def import_cuda(module: str) -> Any:
    """A module under `cuda.`; importing one needs no driver.

    Raises:
        MissingExtraError: cuda-core, cuda-bindings or NVRTC is not installed.
    """
    name = f"cuda.{module}"
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("cuda-core", "kernels") from error


class _NativeErrors:
    """No generator, which takes several times as long; a step enters some thirty."""

    __slots__ = ("_call",)

    def __init__(self, call: str) -> None:
        self._call = call

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, MutoscopeError):
            return
        foreign = type(error).__module__.startswith(FOREIGN) or isinstance(error, RuntimeError)
        if foreign:
            text, begin = str(error).replace("\0", "").strip(), f"{self._call} failed: "
            raise MutoscopeError(begin + text.removeprefix(begin)) from error


def native_errors(call: str) -> AbstractContextManager[None]:
    """Failures of CUDA, under the name of the call and with all that it says about them.

    Raises:
        MutoscopeError: in place of what the library raises for a status that is not success.
    """
    return _NativeErrors(call)


def call_driver(call: str, *arguments: Any) -> list[Any]:
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


def let_wait(waiting: int, stream: int) -> None:
    """Let what follows in one `CUstream` wait for what is in another of the current context.

    Raises:
        MutoscopeError: a call of the driver fails.
    """
    flags = import_cuda("bindings.driver").CUevent_flags
    (event,) = call_driver("cuEventCreate", flags.CU_EVENT_DISABLE_TIMING)
    try:
        call_driver("cuEventRecord", event, stream)
        call_driver("cuStreamWaitEvent", waiting, event, 0)
    finally:
        call_driver("cuEventDestroy", event)


def no_gpu(index: int, error: Exception) -> UserError:
    """What to say where there is no GPU of that number."""
    return UserError(
        f"no NVIDIA GPU {index} that CUDA can use; install NVIDIA's driver, or run on the CPU "
        f"with --backend onnxruntime ({str(error).splitlines()[0]})"
    )
