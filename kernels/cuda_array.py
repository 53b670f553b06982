"""Arrays in device memory, which other libraries take without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MutoscopeError
from .device import DTYPES, Stream
from .native import import_cuda, native_errors

NO_ORDER = -1
LEGACY_STREAM = 1
"""What DLPack's consumers name: no stream, and the default one."""


@dataclass(frozen=True, eq=False)
class CudaArray:
    """An array in device memory.

    Attributes:
        owner: what keeps the memory: a buffer of ours, or another library's array.
        pointer: the address of its first element.
        shape: its axes, in C order without gaps.
        dtype: a key of `DTYPES`.
        stream: what its contents are made on.
    """

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    dtype: str
    stream: Stream

    @property
    def nbytes(self) -> int:
        """The size of its contents."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> CudaArray:
        """Its items `start` to `stop` along the first axis, where they lie."""
        row = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return replace(self, pointer=self.pointer + start * row, shape=shape)

    def reshape(self, shape: tuple[int, ...]) -> CudaArray:
        """As many items along other axes, where they lie."""
        return replace(self, shape=shape)

    def kept_by(self, owner: object) -> CudaArray:
        """The same memory; whatever refers to it, in other libraries too, refers to `owner`."""
        return replace(self, owner=owner)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an array in device memory is not read without a copy")
        return np.asarray(self.stream.download(self), dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16; DLPack has")
        return {
            "version": 3,
            "shape": self.shape,
            "strides": None,
            "typestr": DTYPES[self.dtype].str,
            "data": (self.pointer, False),
            "stream": self.stream.handle,
        }

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """A DLPack capsule of this memory.

        Args:
            stream: the consumer's, which waits for what is in ours; -1 waits for nothing, `None` is
                CUDA's default stream.
            **options: the others of the protocol.
        """
        follower = LEGACY_STREAM if stream is None else stream
        if follower not in (NO_ORDER, self.stream.handle):
            self.stream.lead(follower)
        return self._view.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's name of the device."""
        kind, index = self._view.__dlpack_device__()
        return int(kind), int(index)

    @cached_property
    def _view(self) -> Any:
        core, utils = import_cuda("core"), import_cuda("core.utils")
        buffer = core.Buffer.from_handle(self.pointer, max(1, self.nbytes), owner=self.owner)
        return utils.StridedMemoryView.from_buffer(
            buffer, self.shape, dtype=_exchanged_dtype(self.dtype)
        )


def adopt(foreign: Any, stream: Stream) -> CudaArray:
    """Another library's array, by DLPack or `__cuda_array_interface__`, without a copy.

    Args:
        foreign: is kept as long as the array is.
        stream: is made to wait for the work that the array's owner names.

    Raises:
        MutoscopeError: it cannot be had, is not in the device's memory, has gaps, or holds another
            kind of element.
    """
    views = import_cuda("core.utils").StridedMemoryView
    try:
        with native_errors("DLPack"):
            view = views.from_any_interface(foreign, stream_ptr=stream.handle)
            name = str(view.dtype.name)
    except (AssertionError, AttributeError, BufferError, TypeError, ValueError) as error:
        kind = type(foreign).__name__
        raise MutoscopeError(f"no array can be had of this {kind}: {error}") from error
    if not view.is_device_accessible or name not in DTYPES or not _without_gaps(view):
        raise MutoscopeError(
            f"an array on the device is needed, of {', '.join(DTYPES)}, in C order without gaps"
        )
    if view.device_id != stream.device.index:
        raise MutoscopeError(
            f"an array on GPU {stream.device.index} is needed, this one is on GPU {view.device_id}"
        )
    return CudaArray(view, view.ptr, tuple(view.shape), name, stream)


def _without_gaps(view: Any) -> bool:
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.strides or ()), strict=False):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _exchanged_dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return DTYPES[name]
    try:
        import ml_dtypes
    except ImportError as error:
        raise BufferError("DLPack of bfloat16 needs the package ml_dtypes") from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
