"""A stream of one GPU on NVIDIA's cuda-core: memory, copies, kernels, events, recorded graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..errors import MutoscopeError
from .cuda_array import CudaArray, adopt
from .cuda_events import CudaEvent, CudaGraph
from .device import DTYPES, NAMES, Argument, DeviceArray, Event, Graph
from .memory import DeviceMemory, Landing
from .native import call_driver, import_cuda, let_wait, native_errors
from .recording import Rehearsal

if TYPE_CHECKING:
    from .cuda_core import CudaDevice

THREADS = 256
ON_DEVICE = "cuMemcpyDtoDAsync"


class CudaStream(Closing):
    """Work on one device, done in order. Any thread may put work into it, one at a time."""

    def __init__(self, device: CudaDevice, native: Any) -> None:
        self.device = device
        self._native = native
        # While a graph is recorded, what is put into the stream goes there.
        self._target = native
        self._waiter = ThreadPoolExecutor(1, "wait", device.set_current)
        self._rehearsal: Rehearsal[CudaArray] = Rehearsal()
        self._landing = Landing(device.calling)

    @property
    def handle(self) -> int:
        """The driver's `CUstream`."""
        return int(self._native.handle)

    def empty(self, shape: Sequence[int], dtype: str) -> CudaArray:
        """An array from the device's pool; its memory goes back when nothing refers to it."""
        shape = tuple(shape)
        return self._rehearsal.array(shape, dtype, lambda: self._from_pool(shape, dtype))

    def _from_pool(self, shape: tuple[int, ...], dtype: str) -> CudaArray:
        size = max(1, math.prod(shape) * DTYPES[dtype].itemsize)
        with self.device.calling(f"cuMemAllocFromPoolAsync({size} bytes)"):
            buffer = self.device.native.allocate(size, stream=self._native)
            return CudaArray(buffer, int(buffer.handle), shape, dtype, self)

    def allocate(self, shape: Sequence[int], dtype: str) -> CudaArray:
        """An array outside of the pool, slow to make; video encoders can register no other."""
        shape = tuple(shape)
        memory = DeviceMemory(self.device.calling, math.prod(shape) * DTYPES[dtype].itemsize)
        return CudaArray(memory, memory.pointer, shape, dtype, self)

    def adopt(self, foreign: Any) -> CudaArray:
        """Another library's array, by DLPack or `__cuda_array_interface__`, without a copy.

        Raises:
            MutoscopeError: as `cuda_array.adopt` says.
        """
        self.device.set_current()
        return adopt(foreign, self)

    def upload(self, values: NDArray[Any], dtype: str | None = None) -> CudaArray:
        """A copy of a host array; `dtype` names it where NumPy has no name for it."""
        values = np.ascontiguousarray(values)
        array = self.empty(values.shape, dtype or NAMES[values.dtype])
        self._copy("cuMemcpyHtoDAsync", array.pointer, values.ctypes.data, values.nbytes)
        return array

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A copy on the host; waits for the stream."""
        values = np.empty(array.shape, DTYPES[array.dtype])
        self.synchronize()  # the copy itself would wait too, deaf to Ctrl-C
        self._copy("cuMemcpyDtoHAsync", values.ctypes.data, array.pointer, values.nbytes)
        self.synchronize()
        return values

    def fetch(self, array: DeviceArray) -> Callable[[], NDArray[Any]]:
        """Begin a copy to the host; what it gives waits for that alone, and returns it."""

        def copy(target: int, size: int) -> CudaEvent:
            self._copy("cuMemcpyDtoHAsync", target, array.pointer, size)
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
        self._copy(ON_DEVICE, target.pointer, source.pointer, size)

    def clear(self, array: DeviceArray) -> None:
        """Make all bytes of an array 0."""
        size = math.prod(array.shape) * DTYPES[array.dtype].itemsize
        if size:
            self.device.set_current()
            call_driver("cuMemsetD8Async", array.pointer, 0, size, self.handle)

    def launch(
        self, source: str, kernel: str, grid: tuple[int, int], arguments: Sequence[Argument]
    ) -> None:
        """Run a kernel of `source`.cu by blocks of 256 threads; `None` is a null pointer."""
        core = import_cuda("core")
        self.device.set_current()
        native = self.device.kernel(source, kernel)
        values = [_native_argument(argument) for argument in arguments]
        with native_errors(f"cuLaunchKernelEx({kernel})"):
            core.launch(self._target, core.LaunchConfig(grid=grid, block=THREADS), native, *values)

    def record(self) -> CudaEvent:
        """Mark this point."""
        core = import_cuda("core")
        with self.device.calling("cuEventRecord"):
            options = core.EventOptions(timing_enabled=True)
            return CudaEvent(self._native.record(options=options), self._waiter)

    def wait(self, event: Event) -> None:
        """Let what follows wait for an event of another stream."""
        assert isinstance(event, CudaEvent)
        with self.device.calling("cuStreamWaitEvent"):
            self._native.wait(event.native)

    def lead(self, follower: int) -> None:
        """Let what follows in another library's `CUstream` wait for what is in this one."""
        self.device.set_current()
        let_wait(follower, self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Run `work`, then record what it puts into this stream.

        What it allocates is the same both times, and lives as long as the graph.

        Raises:
            MutoscopeError: it cannot be recorded: it waits, copies to or from the host, or does not
                do the same twice.
        """
        builder, arrays = self._rehearsal.perform(work, self._recorded)
        with native_errors("cuGraphInstantiate"):
            return CudaGraph(builder.complete(), self._native, arrays)

    def synchronize(self) -> None:
        """Wait until all is done, in a thread, so that Ctrl-C is heard."""
        with native_errors("cuStreamSynchronize"):
            self._waiter.submit(self._native.sync).result()

    def close(self) -> None:
        """Give the stream back."""
        self._waiter.shutdown(wait=False)
        self._landing.clear()
        self._native.close()

    def _recorded(self, work: Callable[[], None]) -> Any:
        """Cuda-core's builder of the graph of `work`."""
        with native_errors("cuStreamBeginCapture"):
            builder = self._native.create_graph_builder().begin_building()
        self._target = builder
        try:
            work()
        finally:
            self._target = self._native
            with native_errors("cuStreamEndCapture"):
                builder.end_building()
        return builder

    def _copy(self, call: str, target: int, source: int, size: int) -> None:
        """One of the driver's copies. From the host's memory it returns once that is read."""
        if self._target is not self._native and call != ON_DEVICE:
            raise MutoscopeError(f"{call}: what passes through the host cannot be recorded")
        if not size:
            return
        self.device.set_current()
        call_driver(call, target, source, size, self.handle)


def _native_argument(argument: Argument) -> Any:
    if argument is None:
        return 0
    return argument if isinstance(argument, np.generic) else argument.pointer
