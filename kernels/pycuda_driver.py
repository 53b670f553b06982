"""The part of PyCUDA that is used here, by its own names; it has no types of its own.

Source: PyCUDA 2026.1, `pycuda.driver` and `pycuda.tools` (documen.tician.de/pycuda/driver.html).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from ..errors import MissingExtraError


class NativeContext(Protocol):
    """Where memory, streams and kernels of a device live. Equal ones have one handle."""

    @property
    def handle(self) -> int:
        """The driver's `CUcontext`."""

    def push(self) -> None:
        """Make it the calling thread's."""


class NativeDevice(Protocol):
    """A GPU."""

    def name(self) -> str:
        """As its maker calls it."""

    def compute_capability(self) -> tuple[int, int]:
        """Such as (8, 9)."""

    def total_memory(self) -> int:
        """In bytes."""

    def retain_primary_context(self) -> NativeContext:
        """Its primary context, not pushed; held while the object lives."""


class Contexts(Protocol):
    """The class `Context`, whose static methods work on the calling thread's."""

    def get_current(self) -> NativeContext | None:
        """The one that PyCUDA pushed last."""

    def pop(self) -> None:
        """Take that away again."""

    def get_device(self) -> NativeDevice:
        """Whose it is."""


class Devices(Protocol):
    """The class `Device`."""

    def __call__(self, index: int) -> NativeDevice:
        """The GPU of that number."""

    def count(self) -> int:
        """How many there are."""


class NativeEvent(Protocol):
    """A point in a stream's work."""

    def record(self, stream: NativeStream) -> Any:
        """Mark it."""

    def synchronize(self) -> Any:
        """Wait for it."""

    def time_since(self, earlier: NativeEvent) -> float:
        """In milliseconds."""


class NativeStream(Protocol):
    """Work done in order."""

    @property
    def handle(self) -> int:
        """The driver's `CUstream`."""

    def synchronize(self) -> None:
        """Wait until all is done."""

    def wait_for_event(self, event: NativeEvent) -> None:
        """Let what follows wait."""


class Function(Protocol):
    """A kernel."""

    def prepare(self, types: Sequence[str]) -> Any:
        """Say the types of its arguments, as `struct` does."""

    def prepared_async_call(
        self,
        grid: tuple[int, int],
        block: tuple[int, int, int],
        stream: NativeStream,
        *arguments: Any,
    ) -> None:
        """Launch it."""


class Module(Protocol):
    """A cubin, loaded."""

    def get_function(self, name: str) -> Function:
        """A kernel of it."""


class Allocation(Protocol):
    """A block of a pool's memory."""

    def __int__(self) -> int: ...

    def free(self) -> None:
        """Give it back to the pool."""


class Pool(Protocol):
    """Keeps the memory that is given back, for the next that asks."""

    def allocate(self, size: int) -> Allocation:
        """A block of so many bytes."""

    def stop_holding(self) -> None:
        """Give what it keeps back to the driver, and what comes later at once."""


class Driver(Protocol):
    """The module `pycuda.driver`."""

    Context: Contexts
    Device: Devices
    Event: Callable[[], NativeEvent]
    Stream: Callable[[], NativeStream]

    def init(self) -> None:
        """Before all else; again does nothing."""

    def get_driver_version(self) -> int:
        """Such as 13010."""

    def mem_get_info(self) -> tuple[int, int]:
        """Bytes that are free, and all."""

    def module_from_buffer(self, cubin: bytes) -> Module:
        """Load it."""

    def memcpy_htod_async(self, dest: int, src: Any, stream: NativeStream) -> None:
        """From a buffer of the host."""

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: NativeStream) -> None:
        """Into a buffer of the host."""

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: NativeStream) -> None:
        """On the device."""


class Tools(Protocol):
    """The module `pycuda.tools`."""

    DeviceMemoryPool: Callable[[], Pool]


def import_driver() -> Driver:
    """`pycuda.driver`.

    Raises:
        MissingExtraError: PyCUDA is not installed, or finds no driver to link to.
    """
    return cast("Driver", _import("pycuda.driver"))


def import_tools() -> Tools:
    """`pycuda.tools`; raises as `import_driver` does."""
    return cast("Tools", _import("pycuda.tools"))


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("pycuda", "pycuda") from error
