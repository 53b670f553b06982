"""PyCUDA on a CPU: its contexts, pools, streams and modules, as strict as it is, and no GPU.

Work waits in its stream until something waits for it; `eager` does it at once, for engines that do
not know these streams. Contexts are each thread's own stack, and what needs one says so. What
PyCUDA punishes by an abort, a warning or a leak stands in `mistakes`.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

TOO_MUCH = 1 << 32


class Error(Exception):
    __module__ = "pycuda._driver"


class LogicError(Error):
    __module__ = "pycuda._driver"


class OutOfMemoryError(Error):
    __module__ = "pycuda._driver"


@dataclass
class FakePyCuda:
    """The state of the driver, and the modules that stand in for PyCUDA's.

    Attributes:
        build: gives the kernels of a source, built for this CPU.
        devices: how many GPUs there are.
        calls: what was asked for, in order.
        mistakes: what would have ended the process, or lost memory.
    """

    build: Callable[[str], Any]
    devices: int = 1
    eager: bool = False
    calls: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    blocks: dict[int, Any] = field(default_factory=dict)
    streams: MutableMapping[int, FakeStream] = field(default_factory=WeakValueDictionary)
    made: int = 0
    stacks: dict[int, list[FakeContext]] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    pinned: dict[int, Any] = field(default_factory=dict)
    primary_active: bool = False

    @property
    def stack(self) -> list[FakeContext]:
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self, call: str) -> FakeContext:
        if not self.stack:
            raise LogicError(
                f"{call} failed: invalid device context - no currently active context?"
            )
        return self.stack[-1]

    def check(self, call: str, address: int, size: int) -> None:
        inside = (
            start <= address and address + size <= start + len(block)
            for start, block in self.blocks.items()
        )
        if not any(inside):
            raise LogicError(f"{call} failed: invalid argument")

    def modules(self) -> dict[str, ModuleType]:
        driver, tools = ModuleType("pycuda.driver"), ModuleType("pycuda.tools")
        vars(driver).update(
            init=self.init,
            Context=SimpleNamespace(
                get_current=lambda: self.stack[-1] if self.stack else None,
                pop=self.pop,
                get_device=lambda: self.need_context("cuCtxGetDevice").device,
            ),
            Device=DeviceClass(self),
            Stream=lambda: FakeStream(self),
            Event=lambda: FakeEvent(self),
            get_driver_version=lambda: 13010,
            mem_get_info=self.mem_get_info,
            module_from_buffer=lambda cubin: FakeModule(self, cubin),
            memcpy_htod_async=self.htod,
            memcpy_dtoh_async=self.dtoh,
            memcpy_dtod_async=self.dtod,
        )
        vars(tools).update(DeviceMemoryPool=lambda: FakePool(self))
        package = ModuleType("pycuda")
        return {"pycuda": package, "pycuda.driver": driver, "pycuda.tools": tools}

    def init(self) -> None:
        if not self.devices:
            raise LogicError("cuInit failed: no CUDA-capable device is detected")

    def pop(self) -> None:
        self.need_context("context::pop")
        self.stack.pop()

    def mem_get_info(self) -> tuple[int, int]:
        self.need_context("cuMemGetInfo")
        return 3 << 30, 8 << 30

    def htod(self, dest: int, src: Any, stream: FakeStream) -> None:
        self.need_context("cuMemcpyHtoDAsync")
        data = bytes(memoryview(src).cast("B"))
        self.check("cuMemcpyHtoDAsync", dest, len(data))
        stream.put(f"htod {len(data)}", lambda: ctypes.memmove(dest, data, len(data)))

    def dtoh(self, dest: Any, src: int, stream: FakeStream) -> None:
        self.need_context("cuMemcpyDtoHAsync")
        view = memoryview(dest).cast("B")
        self.check("cuMemcpyDtoHAsync", src, len(view))

        def work() -> None:
            view[:] = ctypes.string_at(src, len(view))

        stream.put(f"dtoh {len(view)}", work)

    def dtod(self, dest: int, src: int, size: int, stream: FakeStream) -> None:
        self.need_context("cuMemcpyDtoDAsync")
        self.check("cuMemcpyDtoDAsync", dest, size)
        self.check("cuMemcpyDtoDAsync", src, size)
        stream.put(f"dtod {size}", lambda: ctypes.memmove(dest, src, size))

    def call_driver(self, call: str, *arguments: Any) -> list[Any]:
        """In the place of cuda-bindings, for what PyCUDA lacks."""
        self.calls.append(" ".join([call, *(str(int(a)) for a in arguments)]))
        answer = getattr(self, f"_{call}")(*arguments)
        return [] if answer is None else list(answer)

    def _cuCtxSetCurrent(self, context: int) -> None:  # noqa: N802
        pass

    def _cuDevicePrimaryCtxGetState(self, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, int(self.primary_active)

    def _cuDevicePrimaryCtxRetain(self, device: int) -> tuple[int]:  # noqa: N802
        return (primary_handle(device),)

    def _cuDevicePrimaryCtxRelease(self, device: int) -> None:  # noqa: N802
        pass

    def _cuMemAlloc(self, size: int) -> tuple[int]:  # noqa: N802
        self.need_context("cuMemAlloc")
        address, block = aligned(size)
        self.blocks[address] = block
        return (address,)

    def _cuMemFree(self, address: int) -> None:  # noqa: N802
        self.need_context("cuMemFree")
        del self.blocks[address]

    def _cuMemAllocHost(self, size: int) -> tuple[int]:  # noqa: N802
        self.need_context("cuMemAllocHost")
        address, block = aligned(size)
        self.pinned[address] = block
        return (address,)

    def _cuMemFreeHost(self, address: int) -> None:  # noqa: N802
        self.need_context("cuMemFreeHost")
        del self.pinned[address]

    def _cuMemcpyDtoHAsync(self, dest: int, src: int, size: int, stream: int) -> None:  # noqa: N802
        self.need_context("cuMemcpyDtoHAsync")
        self.check("cuMemcpyDtoHAsync", src, size)
        assert dest in self.pinned
        work = partial(ctypes.memmove, dest, src, size)
        self.streams[stream].put(f"dtoh {size}", work)

    def _cuMemsetD8Async(self, dest: int, value: int, size: int, stream: int) -> None:  # noqa: N802
        self.need_context("cuMemsetD8Async")
        self.check("cuMemsetD8Async", dest, size)
        self.streams[stream].put(f"memset {size}", partial(ctypes.memset, dest, value, size))

    def _cuStreamBeginCapture(self, stream: int, mode: Any) -> None:  # noqa: N802
        self.need_context("cuStreamBeginCapture")
        self.streams[stream].captured = []

    def _cuStreamEndCapture(self, stream: int) -> tuple[int]:  # noqa: N802
        work, self.streams[stream].captured = self.streams[stream].captured, None
        assert work is not None
        self.graphs[len(self.calls)] = work
        return (len(self.calls),)

    def _cuGraphInstantiate(self, graph: int, flags: int) -> tuple[int]:  # noqa: N802
        self.graphs[-graph] = self.graphs[graph]
        return (-graph,)

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:  # noqa: N802
        self.need_context("cuGraphLaunch")
        for work in self.graphs[graph]:
            self.streams[stream].put("graph", work)

    def _cuGraphDestroy(self, graph: int) -> None:  # noqa: N802
        del self.graphs[graph]

    _cuGraphExecDestroy = _cuGraphDestroy  # noqa: N815


def aligned(size: int) -> tuple[int, Any]:
    """Memory that nothing was written to, and the first address in it that is a multiple of 16."""
    block = (ctypes.c_char * (size + 16)).from_buffer(bytearray(b"\x77" * (size + 16)))
    return -(-ctypes.addressof(block) // 16) * 16, block


def primary_handle(device: int) -> int:
    return 1000 + device


@dataclass(eq=False)
class FakeContext:
    fake: FakePyCuda
    device: FakeDevice
    handle: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeContext) and self.handle == other.handle

    __hash__ = None  # type: ignore[assignment]

    def push(self) -> None:
        self.fake.stack.append(self)


@dataclass(frozen=True)
class FakeDevice:
    fake: FakePyCuda = field(compare=False)
    number: int

    def name(self) -> str:
        return f"GPU {self.number}"

    def compute_capability(self) -> tuple[int, int]:
        return 8, 9

    def total_memory(self) -> int:
        return 8 << 30

    def make_context(self, handle: int = 500) -> FakeContext:
        context = FakeContext(self.fake, self, handle)
        context.push()
        return context

    def retain_primary_context(self) -> FakeContext:
        self.fake.calls.append(f"retain {self.number}")
        self.fake.primary_active = True
        return FakeContext(self.fake, self, primary_handle(self.number))


@dataclass
class DeviceClass:
    fake: FakePyCuda

    def __call__(self, index: int) -> FakeDevice:
        if index >= self.fake.devices:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")
        return FakeDevice(self.fake, index)

    def count(self) -> int:
        return self.fake.devices


class FakeStream:
    def __init__(self, fake: FakePyCuda) -> None:
        self.fake, self.context = fake, fake.need_context("cuStreamCreate").handle
        self.handle = 0x5000 + fake.made
        self.thread = threading.get_ident()
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        fake.streams[self.handle] = self
        fake.made += 1

    def __del__(self) -> None:
        if not self.fake.stack and threading.get_ident() != self.thread:
            self.fake.mistakes.append("a stream of another thread is not cleaned up")

    def put(self, what: str, work: Callable[[], Any]) -> None:
        self.fake.calls.append(what)
        if self.captured is not None:
            self.captured.append(work)
        elif self.fake.eager:
            work()
        else:
            self.queue.append(work)

    def run(self, until: int | None = None) -> None:
        while self.queue and (until is None or until > 0):
            self.queue.pop(0)()
            until = None if until is None else until - 1

    def synchronize(self) -> None:
        self.fake.need_context("cuStreamSynchronize")
        assert self.captured is None
        self.run()

    def wait_for_event(self, event: FakeEvent) -> None:
        self.fake.need_context("cuStreamWaitEvent")
        self.put("wait", event.reach)


class FakeEvent:
    def __init__(self, fake: FakePyCuda) -> None:
        fake.need_context("cuEventCreate")
        self.fake = fake
        self.passed = False

    def record(self, stream: FakeStream) -> FakeEvent:
        self.fake.need_context("cuEventRecord")
        self.stream = stream
        stream.put("record", self._pass)
        return self

    def _pass(self) -> None:
        self.passed = True

    def reach(self) -> None:
        while not self.passed:
            self.stream.run(until=1)

    def synchronize(self) -> FakeEvent:
        self.fake.need_context("cuEventSynchronize")
        self.reach()
        return self

    def time_since(self, earlier: FakeEvent) -> float:
        if not (self.passed and earlier.passed):
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return 1.5


class FakePool:
    def __init__(self, fake: FakePyCuda) -> None:
        self.fake = fake
        self.held: dict[int, list[int]] = {}
        self.holding = True

    def allocate(self, size: int) -> FakeAllocation:
        self.fake.need_context("cuMemAlloc")
        if size >= TOO_MUCH:
            raise OutOfMemoryError(
                "memory_pool::allocate failed: out of memory - failed to free memory for allocation"
            )
        kept = self.held.setdefault(size, [])
        if kept:
            return FakeAllocation(self, kept.pop(), size)
        address, block = aligned(size)
        self.fake.blocks[address] = block
        return FakeAllocation(self, address, size)

    def take_back(self, address: int, size: int) -> None:
        self.fake.need_context("pooled_device_allocation::free")
        if self.holding:
            self.held[size].append(address)
        else:
            del self.fake.blocks[address]

    def stop_holding(self) -> None:
        self.fake.need_context("cuMemFree")
        self.holding = False
        for addresses in self.held.values():
            for address in addresses:
                del self.fake.blocks[address]
        self.held.clear()


class FakeAllocation:
    def __init__(self, pool: FakePool, address: int, size: int) -> None:
        self.pool, self.address, self.size, self.valid = pool, address, size, True

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        if not self.valid:
            raise LogicError("pooled_device_allocation::free failed: invalid resource handle")
        self.pool.take_back(self.address, self.size)
        self.valid = False

    def __del__(self) -> None:
        if self.valid:
            self.pool.fake.mistakes.append("memory left to a destructor")


class FakeModule:
    """Of a cubin that is the name of its source."""

    def __init__(self, fake: FakePyCuda, cubin: bytes) -> None:
        fake.need_context("cuModuleLoadDataEx")
        fake.calls.append(f"load {cubin.decode()}")
        if cubin.startswith(b"broken"):
            raise LogicError(
                "cuModuleLoadDataEx failed: device kernel image is invalid - ptxas: not an ELF\0"
            )
        self.fake, self.kernels = fake, fake.build(cubin.decode())

    def get_function(self, name: str) -> FakeFunction:
        try:
            count = self.kernels[f"count_{name}"]()
        except AttributeError:
            raise LogicError("cuModuleGetFunction failed: named symbol not found") from None
        return FakeFunction(self.fake, self.kernels[f"launch_{name}"], name, count)


@dataclass
class FakeFunction:
    fake: FakePyCuda
    native: Any
    name: str
    count: int
    format: str = ""

    def prepare(self, types: Sequence[str]) -> None:
        self.format = "".join(types)

    def prepared_async_call(
        self, grid: tuple[int, int], block: tuple[int, int, int], stream: FakeStream, *given: Any
    ) -> None:
        self.fake.need_context("cuLaunchKernel")
        assert len(given) == len(self.format) == self.count
        packed = ctypes.create_string_buffer(struct.pack(self.format, *given))
        ends = [struct.calcsize(self.format[: i + 1]) for i in range(self.count)]
        starts = [end - struct.calcsize(f) for end, f in zip(ends, self.format, strict=True)]

        def work() -> None:
            first = ctypes.addressof(packed)
            addresses = (ctypes.c_void_p * self.count)(*[first + start for start in starts])
            sizes = map(ctypes.c_uint, (*map(int, grid), int(np.prod(block))))
            self.native(*sizes, addresses)

        stream.put(f"launch {self.name}", work)
