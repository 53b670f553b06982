"""The boundary to CUDA's libraries: what is missing or fails there, in this program's words."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from ..errors import MissingExtraError, MutoscopeError, UserError

FOREIGN = ("cuda.", "pycuda.")


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
        MutoscopeError: in place of what the library raises for a status that is not success.
    """
    try:
        yield
    except Exception as error:
        ours = isinstance(error, MutoscopeError)
        foreign = type(error).__module__.startswith(FOREIGN) or isinstance(error, RuntimeError)
        if ours or not foreign:
            raise
        text, begin = str(error).replace("\0", "").strip(), f"{call} failed: "
        raise MutoscopeError(begin + text.removeprefix(begin)) from error


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
