"""The device layer on PyCUDA, in the context that is current.

PyCUDA knows which context it pushed in each thread, frees memory only there, and aborts the process
where a thread ends with one. So each call here pushes the context if need be and pops it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingExtraError, MutoscopeError
from .compiler import compile_source, read_source
from .native import call_driver, native_errors, no_gpu
from .pycuda_driver import Function, Module, NativeContext, import_driver
from .pycuda_stream import PyCudaStream


def open_device() -> PyCudaDevice:
    """The GPU of the thread's current context; without one, the first GPU in its primary context.

    Raises:
        MissingExtraError: PyCUDA is not installed.
        UserError: there is no GPU, or no driver for it.
    """
    driver = import_driver()
    try:
        with native_errors("cuInit"):
            driver.init()
            context = driver.Context.get_current()
            if context is None:
                context = driver.Device(0).retain_primary_context()
    except MissingExtraError:
        raise
    except MutoscopeError as error:
        raise no_gpu(0, error) from error
    return PyCudaDevice(context)


class PyCudaDevice:
    """One GPU in one context, and the kernels loaded there.

    Attributes:
        index: its number among those that CUDA sees.
    """

    def __init__(self, context: NativeContext) -> None:
        self._driver = import_driver()
        self._context = context
        self._modules: dict[str, Module] = {}
        with self.calling("cuCtxGetDevice"):
            self._native = self._driver.Context.get_device()
            devices = [self._driver.Device(index) for index in range(self._driver.Device.count())]
        self.index = devices.index(self._native)

    @property
    def primary(self) -> bool:
        """Whether the context is the one of CUDA's runtime library.

        Not asked through PyCUDA, which pushes a primary context when it lets go of it.
        """
        _, active = call_driver("cuDevicePrimaryCtxGetState", self.index)
        if not active:
            return False
        (context,) = call_driver("cuDevicePrimaryCtxRetain", self.index)
        call_driver("cuDevicePrimaryCtxRelease", self.index)
        return int(context) == self._context.handle

    @property
    def name(self) -> str:
        """As its maker calls it."""
        with native_errors("cuDeviceGetName"):
            return self._native.name()

    @property
    def arch(self) -> str:
        """What kernels are compiled for, such as "sm_89"."""
        with native_errors("cuDeviceGetAttribute"):
            major, minor = self._native.compute_capability()
        return f"sm_{major}{minor}"

    @property
    def driver(self) -> int:
        """The major version of CUDA that its driver is of."""
        with native_errors("cuDriverGetVersion"):
            return self._driver.get_driver_version() // 1000

    @property
    def memory(self) -> int:
        """Bytes of memory that it has."""
        with native_errors("cuDeviceTotalMem"):
            return self._native.total_memory()

    def memory_in_use(self) -> int:
        """Bytes of its memory that are taken, by this process and all others."""
        with self.calling("cuMemGetInfo"):
            free, total = self._driver.mem_get_info()
        return total - free

    def set_current(self) -> None:
        """Make its context the calling thread's, for libraries that do not do so themselves.

        Behind PyCUDA's back: what it pushes, the thread would have to pop before it ends.
        """
        call_driver("cuCtxSetCurrent", self._context.handle)

    @contextmanager
    def calling(self, call: str) -> Iterator[None]:
        """A call of PyCUDA's, in the context and under its name."""
        contexts = self._driver.Context
        with native_errors(call):
            away = contexts.get_current() != self._context
            if away:
                self._context.push()
            try:
                yield
            finally:
                if away:
                    contexts.pop()

    def stream(self) -> PyCudaStream:
        """A new stream."""
        return PyCudaStream(self)

    def kernel(self, source: str, name: str) -> Function:
        """A kernel of `source`.cu, compiled and loaded when first asked for.

        Raises:
            MutoscopeError: it does not compile, or cannot be loaded.
        """
        if source not in self._modules:
            cubin = compile_source(read_source(source), source, self.arch)
            with self.calling(f"module_from_buffer({source})"):
                self._modules[source] = self._driver.module_from_buffer(cubin)
        with self.calling(f"get_function({name})"):
            return self._modules[source].get_function(name)
