"""The device layer on NVIDIA's cuda-core."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..errors import MissingExtraError, MutoscopeError
from .compiler import compile_source, read_source
from .cuda_stream import CudaStream
from .native import call_driver, import_cuda, native_errors, no_gpu


def open_device(index: int = 0) -> CudaDevice:
    """The GPU of that number.

    Raises:
        MissingExtraError: cuda-core is not installed.
        UserError: there is no such GPU, or no driver for it.
    """
    core = import_cuda("core")
    try:
        with native_errors("cuInit"):
            device = core.Device(index)
            device.set_current()
    except MissingExtraError:
        raise
    except (MutoscopeError, ValueError) as error:
        raise no_gpu(index, error) from error
    return CudaDevice(device)


class CudaDevice:
    """One GPU, and the kernels loaded on it."""

    primary = True

    def __init__(self, native: Any) -> None:
        self.native = native
        self._modules: dict[str, Any] = {}

    @property
    def index(self) -> int:
        """Its number among those that CUDA sees."""
        return int(self.native.device_id)

    @property
    def name(self) -> str:
        """As its maker calls it."""
        return str(self.native.name)

    @property
    def arch(self) -> str:
        """What kernels are compiled for, such as "sm_89"."""
        return f"sm_{self.native.arch}"

    @property
    def driver(self) -> int:
        """The major version of CUDA that its driver is of."""
        with native_errors("cuDriverGetVersion"):
            return int(import_cuda("core").system.get_user_mode_driver_version()[0])

    @property
    def memory(self) -> int:
        """Bytes of memory that it has."""
        return self._memory()[1]

    def memory_in_use(self) -> int:
        """Bytes of its memory that are taken, by this process and all others."""
        free, total = self._memory()
        return total - free

    def set_current(self) -> None:
        """Make it the calling thread's; a stream's own methods do."""
        with native_errors("cuCtxSetCurrent"):
            self.native.set_current()

    def calling(self, call: str) -> AbstractContextManager[None]:
        """A call on it, under its name."""
        self.set_current()
        return native_errors(call)

    def stream(self) -> CudaStream:
        """A new stream."""
        core = import_cuda("core")
        with native_errors("cuStreamCreate"):
            return CudaStream(self, self.native.create_stream(options=core.StreamOptions()))

    def kernel(self, source: str, name: str) -> Any:
        """A kernel of `source`.cu, compiled and loaded when first asked for.

        Raises:
            MutoscopeError: it does not compile, or cannot be loaded.
        """
        if source not in self._modules:
            cubin = compile_source(read_source(source), source, self.arch)
            with native_errors(f"cuLibraryLoadData({source})"):
                self._modules[source] = import_cuda("core").ObjectCode.from_cubin(cubin)
        with native_errors(f"cuLibraryGetKernel({name})"):
            return self._modules[source].get_kernel(name)

    def _memory(self) -> tuple[int, int]:
        self.set_current()
        free, total = call_driver("cuMemGetInfo")
        return int(free), int(total)
