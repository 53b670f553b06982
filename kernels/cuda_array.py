"""Arrays in device memory, which other libraries take without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import DTYPES, Stream
from .native import import_cuda


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

    def __dlpack__(self, **options: Any) -> Any:
        """A DLPack capsule of this memory; `options` are the protocol's."""
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


def _exchanged_dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return DTYPES[name]
    try:
        import ml_dtypes
    except ImportError as error:
        raise BufferError("DLPack of bfloat16 needs the package ml_dtypes") from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
