"""Memory that is not the pool's: the device's, for libraries that register it, and the host's."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import DTYPES, DeviceArray, Event
from .native import call_driver

Calling = Callable[[str], AbstractContextManager[None]]
"""A device's: within, a call of that name is made in its context."""


class Memory:
    """Bytes from one of the driver's allocators, freed when nothing refers to them.

    Attributes:
        pointer: the address of the first.
    """

    def __init__(self, calling: Calling, allocate: str, free: str, size: int) -> None:
        with calling(allocate):
            (pointer,) = call_driver(allocate, max(1, size))
        self.pointer = int(pointer)
        # the process's end frees all; the driver may be gone by then
        weakref.finalize(self, _free, calling, free, self.pointer).atexit = False


class DeviceMemory(Memory):
    """Of the device."""

    def __init__(self, calling: Calling, size: int) -> None:
        super().__init__(calling, "cuMemAlloc", "cuMemFree", size)


class PinnedMemory(Memory):
    """Of the host, page-locked: the device copies to it while it computes."""

    def __init__(self, calling: Calling, size: int) -> None:
        super().__init__(calling, "cuMemAllocHost", "cuMemFreeHost", size)

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A copy of what lies there."""
        size = math.prod(shape) * dtype.itemsize
        memory = memoryview((ctypes.c_char * size).from_address(self.pointer))
        return np.frombuffer(memory, dtype).reshape(shape).copy()


class Landing:
    """Where copies to the host arrive: page-locked memory, taken again once it was read."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self._free: dict[int, list[PinnedMemory]] = {}

    def fetch(
        self, array: DeviceArray, copy: Callable[[int, int], Event]
    ) -> Callable[[], NDArray[Any]]:
        """Begin a copy of an array; what it gives waits for that alone, and returns it.

        Args:
            array: on the device.
            copy: puts the copy to an address, of so many bytes, into a stream, and marks the point
                after it.
        """
        dtype = DTYPES[array.dtype]
        size = math.prod(array.shape) * dtype.itemsize
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else PinnedMemory(self._calling, size)
        copied = copy(memory.pointer, size)

        def finish() -> NDArray[Any]:
            copied.synchronize()
            values = memory.values(array.shape, dtype)
            free.append(memory)
            return values

        return finish

    def clear(self) -> None:
        """Give the memory back."""
        self._free.clear()


def _free(calling: Calling, call: str, pointer: int) -> None:
    """From whichever thread lets go last."""
    with calling(call):
        call_driver(call, pointer)
