"""Memory that is not the pool's: the device's, for libraries that register it, and the host's."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .native import call_driver

if TYPE_CHECKING:
    from .cuda_core import CudaDevice


class Memory:
    """Bytes from one of the driver's allocators, freed when nothing refers to them.

    Attributes:
        pointer: the address of the first.
    """

    def __init__(self, device: CudaDevice, allocate: str, free: str, size: int) -> None:
        device.set_current()
        (pointer,) = call_driver(allocate, max(1, size))
        self.pointer = int(pointer)
        # the process's end frees all; the driver may be gone by then
        weakref.finalize(self, _free, device, free, self.pointer).atexit = False


class DeviceMemory(Memory):
    """Of the device."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        super().__init__(device, "cuMemAlloc", "cuMemFree", size)


class PinnedMemory(Memory):
    """Of the host, page-locked: the device copies to it while it computes."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        super().__init__(device, "cuMemAllocHost", "cuMemFreeHost", size)

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A copy of what lies there."""
        size = math.prod(shape) * dtype.itemsize
        memory = memoryview((ctypes.c_char * size).from_address(self.pointer))
        return np.frombuffer(memory, dtype).reshape(shape).copy()


def _free(device: CudaDevice, call: str, pointer: int) -> None:
    """From whichever thread lets go last."""
    device.set_current()
    call_driver(call, pointer)
