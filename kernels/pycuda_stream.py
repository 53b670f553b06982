"""A stream of one GPU on PyCUDA: memory, copies, kernels, events.

What PyCUDA lacks: stream-ordered allocation (each stream has a pool of its own, whose memory no
other takes) and recorded graphs (the driver's own calls, which the compiler's cuda-bindings have).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..errors import MutoscopeError
from .cuda_array import CudaArray, adopt
from .device import DTYPES, NAMES, Argument, DeviceArray, Event
from .memory import DeviceMemory, Landing
from .native import call_driver, import_cuda, let_wait
from .pycuda_driver import (
    Allocation,
    NativeEvent,
    NativeStream,
    Pool,
    import_driver,
    import_tools,
)
from .recording import Rehearsal

if TYPE_CHECKING:
    from .pycuda_device import PyCudaDevice

BLOCK = (256, 1, 1)
POINTER = "P"


@dataclass(frozen=True)
class PyCudaEvent:
    """A point in a stream's work.

    Attributes:
        device: of the stream.
        native: PyCUDA's.
        waiter: the thread that waits for it, so that Ctrl-C is heard.
    """

    device: PyCudaDevice
    native: NativeEvent
    waiter: Executor

    def synchronize(self) -> None:
        """Wait until the work before it is done."""
        self.waiter.submit(self._wait).result()

    def _wait(self) -> None:
        with self.device.calling("cuEventSynchronize"):
            self.native.synchronize()

    def milliseconds_since(self, earlier: Self) -> float:
        """The time on the device between two events that have passed."""
        with self.device.calling("cuEventElapsedTime"):
            return self.native.time_since(earlier.native)


class PyCudaGraph:
    """Work that was recorded once and is launched as a whole."""

    def __init__(self, stream: PyCudaStream, instance: Any, arrays: Sequence[CudaArray]) -> None:
        """Take the driver's graph, and the arrays whose addresses are in it."""
        self._stream, self._arrays = stream, arrays
        self._instance = instance
        weakref.finalize(self, _call, stream.device, "cuGraphExecDestroy", instance)

    def launch(self) -> None:
        """Put it into the stream that it was recorded on."""
        _call(self._stream.device, "cuGraphLaunch", self._instance, self._stream.handle)


class PyCudaStream(Closing):
    """Work on one device, done in order. Any thread may put work into it, one at a time.

    It and CUDA's default stream, on which PyCUDA's own arrays are made, wait for each other.
    """

    def __init__(self, device: PyCudaDevice) -> None:
        self.device = device
        self._driver = import_driver()
        self._waiter = ThreadPoolExecutor(1, "wait")
        with device.calling("cuStreamCreate"):
            self._natives = [self._driver.Stream()]
            self._pool = import_tools().DeviceMemoryPool()
        self._rehearsal: Rehearsal[CudaArray] = Rehearsal()
        self._recording = False
        self._landing = Landing(device.calling)
        self._give_back = weakref.finalize(self, _close, device, self._natives, self._pool)

    @property
    def native(self) -> NativeStream:
        """PyCUDA's stream.

        Raises:
            MutoscopeError: this one is closed.
        """
        if not self._natives:
            raise MutoscopeError("the stream is closed")
        return self._natives[0]

    @property
    def handle(self) -> int:
        """The driver's `CUstream`."""
        return int(self.native.handle)

    def empty(self, shape: Sequence[int], dtype: str) -> CudaArray:
        """An array from the stream's pool; its memory goes back when nothing refers to it."""
        shape = tuple(shape)
        return self._rehearsal.array(shape, dtype, lambda: self._from_pool(shape, dtype))

    def _from_pool(self, shape: tuple[int, ...], dtype: str) -> CudaArray:
        size = max(1, math.prod(shape) * DTYPES[dtype].itemsize)
        with self.device.calling(f"DeviceMemoryPool.allocate({size} bytes)"):
            allocation = self._pool.allocate(size)
        return CudaArray(_Memory(self.device, allocation), int(allocation), shape, dtype, self)

    def allocate(self, shape: Sequence[int], dtype: str) -> CudaArray:
        """An array outside of the pool, slow to make; video encoders can register no other."""
        shape = tuple(shape)
        size = math.prod(shape) * DTYPES[dtype].itemsize
        memory = DeviceMemory(self.device.calling, size)
        return CudaArray(memory, memory.pointer, shape, dtype, self)

    def adopt(self, foreign: Any) -> CudaArray:
        """Another library's array, by DLPack or `__cuda_array_interface__`, without a copy.

        Raises:
            MutoscopeError: as `cuda_array.adopt` says.
        """
        with self.device.calling("DLPack"):
            return adopt(foreign, self)

    def upload(self, values: NDArray[Any], dtype: str | None = None) -> CudaArray:
        """A copy of a host array; `dtype` names it where NumPy has no name for it."""
        values = np.ascontiguousarray(values)
        array = self.empty(values.shape, dtype or NAMES[values.dtype])
        if values.nbytes:
            with self._through_the_host("cuMemcpyHtoDAsync"):
                self._driver.memcpy_htod_async(array.pointer, values, self.native)
        return array

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A copy on the host; waits for the stream."""
        values = np.empty(array.shape, DTYPES[array.dtype])
        self.synchronize()  # the copy itself would wait too, deaf to Ctrl-C
        if values.nbytes:
            with self._through_the_host("cuMemcpyDtoHAsync"):
                self._driver.memcpy_dtoh_async(values, array.pointer, self.native)
            self.synchronize()
        return values

    def fetch(self, array: DeviceArray) -> Callable[[], NDArray[Any]]:
        """Begin a copy to the host; what it gives waits for that alone, and returns it."""

        def copy(target: int, size: int) -> PyCudaEvent:
            if size:
                with self._through_the_host("cuMemcpyDtoHAsync"):
                    call_driver("cuMemcpyDtoHAsync", target, array.pointer, size, self.handle)
            return self.record()

        return self._landing.fetch(array, copy)

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copy between arrays of one shape and dtype.

        Raises:
            MutoscopeError: they differ in it.
        """
        if (source.shape, source.dtype) != (target.shape, target.dtype):
            raise MutoscopeError("arrays of one shape and dtype are copied")
        size = math.prod(source.shape) * DTYPES[source.dtype].itemsize
        if size:
            with self.device.calling("cuMemcpyDtoDAsync"):
                self._driver.memcpy_dtod_async(target.pointer, source.pointer, size, self.native)

    def clear(self, array: DeviceArray) -> None:
        """Make all bytes of an array 0."""
        size = math.prod(array.shape) * DTYPES[array.dtype].itemsize
        if size:
            _call(self.device, "cuMemsetD8Async", array.pointer, 0, size, self.handle)

    def launch(
        self, source: str, kernel: str, grid: tuple[int, int], arguments: Sequence[Argument]
    ) -> None:
        """Run a kernel of `source`.cu by blocks of 256 threads; `None` is a null pointer."""
        function = self.device.kernel(source, kernel)
        with self.device.calling(f"cuLaunchKernel({kernel})"):
            function.prepare([_format(argument) for argument in arguments])
            values = [_value(argument) for argument in arguments]
            function.prepared_async_call(grid, BLOCK, self.native, *values)

    def record(self) -> PyCudaEvent:
        """Mark this point."""
        with self.device.calling("cuEventRecord"):
            event = self._driver.Event()
            event.record(self.native)
        return PyCudaEvent(self.device, event, self._waiter)

    def wait(self, event: Event) -> None:
        """Let what follows wait for an event of another stream."""
        assert isinstance(event, PyCudaEvent)
        with self.device.calling("cuStreamWaitEvent"):
            self.native.wait_for_event(event.native)

    def lead(self, follower: int) -> None:
        """Let what follows in another library's `CUstream` wait for what is in this one."""
        with self.device.calling("cuStreamWaitEvent"):
            let_wait(follower, self.handle)

    def capture(self, work: Callable[[], None]) -> PyCudaGraph:
        """Run `work`, then record what it puts into this stream.

        What it allocates is the same both times, and lives as long as the graph.

        Raises:
            MutoscopeError: it cannot be recorded: it waits, copies to or from the host, or does not
                do the same twice.
        """
        graph, arrays = self._rehearsal.perform(work, self._recorded)
        try:
            (instance,) = _call(self.device, "cuGraphInstantiate", graph, 0)
        finally:
            _call(self.device, "cuGraphDestroy", graph)
        return PyCudaGraph(self, instance, arrays)

    def synchronize(self) -> None:
        """Wait until all is done, in a thread, so that Ctrl-C is heard."""
        self._waiter.submit(self._wait).result()

    def close(self) -> None:
        """Give the stream and the memory that its pool keeps back. A second call does nothing."""
        self._waiter.shutdown(wait=False)
        self._landing.clear()
        self._give_back()

    def _recorded(self, work: Callable[[], None]) -> Any:
        """The driver's graph of `work`."""
        modes, device = import_cuda("bindings.driver").CUstreamCaptureMode, self.device
        relaxed = modes.CU_STREAM_CAPTURE_MODE_RELAXED
        _call(device, "cuStreamBeginCapture", self.handle, relaxed)
        self._recording = True
        try:
            work()
        except BaseException:
            _call(device, "cuGraphDestroy", *_call(device, "cuStreamEndCapture", self.handle))
            raise
        finally:
            self._recording = False
        (graph,) = _call(device, "cuStreamEndCapture", self.handle)
        return graph

    @contextmanager
    def _through_the_host(self, call: str) -> Iterator[None]:
        if self._recording:
            raise MutoscopeError(f"{call}: what passes through the host cannot be recorded")
        with self.device.calling(call):
            yield

    def _wait(self) -> None:
        with self.device.calling("cuStreamSynchronize"):
            self.native.synchronize()


class _Memory:
    """A block of a pool; whichever thread drops it last, it goes back in the context."""

    def __init__(self, device: PyCudaDevice, allocation: Allocation) -> None:
        weakref.finalize(self, _free, device, allocation)


def _close(device: PyCudaDevice, natives: list[NativeStream], pool: Pool) -> None:
    with device.calling("cuStreamDestroy"):
        natives.clear()
        pool.stop_holding()


def _free(device: PyCudaDevice, allocation: Allocation) -> None:
    with device.calling("PooledDeviceAllocation.free"):
        allocation.free()


def _call(device: PyCudaDevice, call: str, *arguments: Any) -> list[Any]:
    """One of the driver's functions, in the context."""
    with device.calling(call):
        return call_driver(call, *arguments)


def _format(argument: Argument) -> str:
    return argument.dtype.char if isinstance(argument, np.generic) else POINTER


def _value(argument: Argument) -> Any:
    if argument is None:
        return 0
    return argument.item() if isinstance(argument, np.generic) else argument.pointer
