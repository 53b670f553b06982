"""What the launchers need of a GPU, whichever library stands behind it: cuda-core or PyCUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

# By the names that bundles use. NumPy has no bfloat16: on the host it is its 16 bits.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "bfloat16"}
"""Of what NumPy has a name for: NumPy itself takes long to say it."""


class DeviceArray(Protocol):
    """An array in device memory, in C order without gaps.

    It speaks `__cuda_array_interface__` and DLPack, so other libraries take it without a copy;
    `numpy.asarray(array)` brings a copy to the host.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes."""

    @property
    def dtype(self) -> str:
        """A key of `DTYPES`."""

    @property
    def pointer(self) -> int:
        """The address of its first element."""

    def rows(self, start: int, stop: int) -> Self:
        """Its items `start` to `stop` along the first axis, where they lie."""

    def reshape(self, shape: tuple[int, ...]) -> Self:
        """As many items along other axes, where they lie."""

    def kept_by(self, owner: object) -> Self:
        """The same memory; whatever refers to it, in other libraries too, refers to `owner`."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]: ...


Argument = DeviceArray | np.generic | None


class Event(Protocol):
    """A point in a stream's work."""

    def synchronize(self) -> None:
        """Wait until the work before it is done."""

    def milliseconds_since(self, earlier: Self) -> float:
        """The time on the device between two events that have passed."""


class Graph(Protocol):
    """Work that was recorded once and is launched as a whole."""

    def launch(self) -> None:
        """Put it into the stream that it was recorded on."""


class Stream(Protocol):
    """Work on one device, done in order. Nothing waits for it unless it says so."""

    @property
    def device(self) -> Device:
        """Where the work is done."""

    @property
    def handle(self) -> int:
        """The driver's `CUstream`, for libraries that take one."""

    def empty(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        """An array from the device's pool; its memory goes back when nothing refers to it."""

    def allocate(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        """An array outside of the pool, slow to make; video encoders can register no other."""

    def adopt(self, foreign: Any) -> DeviceArray:
        """Another library's array, by DLPack or `__cuda_array_interface__`, without a copy.

        What follows in this stream waits for the work that its owner says it is made by.
        """

    def upload(self, values: NDArray[Any], dtype: str | None = None) -> DeviceArray:
        """A copy of a host array; `dtype` names it where NumPy has no name for it."""

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A copy on the host; waits for the stream."""

    def fetch(self, array: DeviceArray) -> Callable[[], NDArray[Any]]:
        """Begin a copy to the host; what it gives waits for that alone, and returns it."""

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copy between arrays of as many bytes."""

    def clear(self, array: DeviceArray) -> None:
        """Make all bytes of an array 0."""

    def launch(
        self, source: str, kernel: str, grid: tuple[int, int], arguments: Sequence[Argument]
    ) -> None:
        """Run a kernel of `source`.cu by blocks of 256 threads; `None` is a null pointer."""

    def record(self) -> Event:
        """Mark this point."""

    def wait(self, event: Event) -> None:
        """Let what follows wait for an event of another stream."""

    def lead(self, follower: int) -> None:
        """Let what follows in another library's `CUstream` wait for what is in this one."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """Run `work`, then record what it puts into this stream.

        What it allocates is the same both times, and lives as long as the graph.

        Raises:
            MutoscopeError: it cannot be recorded: it waits, copies to or from the host, or does not
                do the same twice.
        """

    def synchronize(self) -> None:
        """Wait until all is done; Ctrl-C is heard meanwhile."""

    def close(self) -> None:
        """Give the stream back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Device(Protocol):
    """One GPU."""

    @property
    def index(self) -> int:
        """Its number among those that CUDA sees."""

    @property
    def primary(self) -> bool:
        """Whether the work is done in its primary context, the one of CUDA's runtime library."""

    @property
    def name(self) -> str:
        """As its maker calls it."""

    @property
    def arch(self) -> str:
        """What kernels are compiled for, such as "sm_89"."""

    @property
    def driver(self) -> int:
        """The major version of CUDA that its driver is of."""

    @property
    def memory(self) -> int:
        """Bytes of memory that it has."""

    def memory_in_use(self) -> int:
        """Bytes of its memory that are taken, by this process and all others."""

    def set_current(self) -> None:
        """Make it the calling thread's, for libraries that do not do so themselves."""

    def stream(self) -> Stream:
        """A new stream."""
