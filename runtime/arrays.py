"""Arrays of other libraries (PyTorch, CuPy, PyCUDA), by the protocols that they share with NumPy.

Sources: DLPack's Python specification (dmlc.github.io/dlpack), the CUDA array interface, version 3
(numba.readthedocs.io).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engine import Tensor
from ..errors import MutoscopeError, UserError
from ..kernels.device import Stream

CUDA, CUDA_MANAGED = 2, 13
"""How DLPack names the memory of NVIDIA's GPUs."""


class DLPackArray(Protocol):
    """What gives its memory by DLPack, of the host or of a GPU."""

    def __dlpack_device__(self) -> tuple[Any, int]: ...


class CudaInterface(Protocol):
    """What tells of its memory on a GPU by the CUDA array interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


Given: TypeAlias = NDArray[Any] | DLPackArray | CudaInterface
FindStream: TypeAlias = Callable[[], Stream | None]
"""Gives what the engines work on, where that is a GPU: asked only for an array that lies there."""


def on_the_cpu() -> None:
    """The `FindStream` of a backend that computes on the CPU."""


def speaks(value: Any) -> bool:
    """Whether it is an array, by either protocol."""
    return hasattr(value, "__dlpack_device__") or hasattr(value, "__cuda_array_interface__")


def take(name: str, value: Any, find_stream: FindStream) -> Tensor:
    """An array from outside, where it lies and without a copy; lists become NumPy's.

    A GPU's array is taken in order: what is computed of it waits for the work that its owner says
    it is made by. It must stay as it is until that is done.

    Args:
        name: of the value, for messages.
        value: what was given.
        find_stream: gives the stream that is to use it.

    Raises:
        UserError: it cannot be had, or lies on a GPU and the backend is the CPU's.
    """
    try:
        if not _on_gpu(value):
            foreign = hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray)
            return np.from_dlpack(value) if foreign else np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name} must be one array; this cannot be read: {reason}") from error
    stream = find_stream()
    if stream is None:
        raise UserError(
            f"{name} must lie in the host's memory, where this backend computes, not on a GPU; "
            "use .cpu() (PyTorch) or .get() (CuPy, PyCUDA) first"
        )
    try:
        return stream.adopt(value)
    except MutoscopeError as error:
        raise UserError(f"{name} cannot be taken from the GPU: {error}") from error


def _on_gpu(value: Any) -> bool:
    told = hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0]
    return told in (CUDA, CUDA_MANAGED) or hasattr(value, "__cuda_array_interface__")
