"""One CUDA device: its stream, its memory, and what crosses between it and the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import MissingExtraError, UserError
from ...session import Tensor


class Device:
    """The first CUDA device, with one stream for all work.

    Attributes:
        stream: a `cuda.core.Stream`.
        target: its compute capability, e.g. `sm_89`.
        name: as the driver says, e.g. `NVIDIA GeForce RTX 4090`.
        driver: major version of CUDA that the driver is of.
    """

    def __init__(self, extra: str) -> None:
        """Open the device.

        Raises:
            MissingExtraError: cuda-core is not installed; `extra` installs it.
            UserError: there is no driver, or no GPU.
        """
        try:
            from cuda import core
        except ImportError:
            raise MissingExtraError("cuda-core", extra) from None
        try:
            self._native: Any = core.Device(0)
            self._native.set_current()
            self.driver = int(core.system.get_user_mode_driver_version()[0])
        except RuntimeError:
            raise UserError(
                "no NVIDIA driver was found, and TensorRT engines run on NVIDIA GPUs only; "
                "install the driver, or use --backend onnxruntime"
            ) from None
        except Exception as error:
            # cuda-core's other exceptions share no base class but Exception
            raise UserError(
                f"the NVIDIA driver finds no usable GPU ({error}); use --backend onnxruntime"
            ) from None
        self.stream: Any = self._native.create_stream()
        self.target = f"sm_{self._native.arch}"
        self.name = str(self._native.name)
        self._pinned: Any = core.LegacyPinnedMemoryResource()

    def set_current(self) -> None:
        """Make it the calling thread's; each thread that works on it needs that."""
        self._native.set_current()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceTensor:
        """An uninitialised tensor on the device."""
        size = math.prod(shape) * dtype.itemsize
        return DeviceTensor(self, self._native.allocate(size, stream=self.stream), shape, dtype)

    def upload(self, array: NDArray[Any]) -> tuple[DeviceTensor, Any]:
        """Begin to copy an array; its staging memory has to be kept until the stream is there."""
        tensor, staging = self.empty(array.shape, array.dtype), self._pinned.allocate(array.nbytes)
        view = np.from_dlpack(staging).view(array.dtype).reshape(array.shape)
        np.copyto(view, array)
        tensor.buffer.copy_from(staging, stream=self.stream)
        return tensor, staging

    def download(self, tensor: DeviceTensor) -> NDArray[Any]:
        """A copy on the host, once all that is on the stream is done."""
        staging = self._pinned.allocate(tensor.buffer.size)
        tensor.buffer.copy_to(staging, stream=self.stream)
        self.stream.sync()
        view = np.from_dlpack(staging).view(tensor.dtype).reshape(tensor.shape)
        return view.copy()


class DeviceTensor:
    """A tensor in device memory: a `Buffer` of the session protocol, freed with its last use.

    Attributes:
        buffer: the `cuda.core.Buffer` it lies in.
        shape: its dimensions.
        dtype: of its elements.
    """

    def __init__(
        self, device: Device, buffer: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.device = device
        self.buffer = buffer
        self.shape = shape
        self.dtype = dtype

    @property
    def address(self) -> int:
        """Where it begins in device memory."""
        return int(self.buffer.handle)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a tensor in device memory is not read without a copy")
        return np.asarray(self.device.download(self), dtype)


def on_device(device: Device, tensor: Tensor, staging: list[Any]) -> DeviceTensor:
    """The tensor itself where it is on the device; else a copy, which is under way at the return.

    Staging memory is added to a list that has to be kept until the stream is there. A tensor of
    another session, with another stream, is complete: each run waits for its end.
    """
    if isinstance(tensor, DeviceTensor):
        return tensor
    copied, pinned = device.upload(np.asarray(tensor))
    staging.append(pinned)
    return copied
