"""The CUDA kernels on a CPU: built by the C++ compiler, behind the device layer's own protocol.

What the tests launch are the launchers and the kernels themselves, index arithmetic, tails and
barriers included. `pytest --gpu` runs the same tests on the first NVIDIA GPU as well.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_device import build
from mutoscope.kernels.device import DTYPES
from mutoscope.kernels.ops import Ops
from numpy.typing import NDArray

GUARD = 32  # elements before and after each array that no kernel may touch


class Bench:
    """Puts arrays on a device, at any alignment and between guards, and gets them back."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.ops = Ops(stream)
        self._whole: dict[int, Any] = {}

    def put(self, values: NDArray[Any], dtype: str | None = None, offset: int = 0) -> Any:
        """A copy of the values, `offset` elements behind an aligned address."""
        dtype = dtype or values.dtype.name
        bits = encode(values, dtype)
        # All bits set: NaN as any float, so that a value read from there would show.
        padded = np.full(bits.size + 2 * GUARD + offset, -1, f"i{bits.itemsize}").view(bits.dtype)
        padded[GUARD + offset :][: bits.size] = bits.ravel()
        whole = self.stream.upload(padded, dtype)
        skipped = (GUARD + offset) * bits.itemsize
        array = dataclasses.replace(whole, pointer=whole.pointer + skipped, shape=values.shape)
        self._whole[array.pointer] = whole
        return array

    def room(self, shape: Sequence[int], dtype: str = "float32", offset: int = 0) -> Any:
        """An array to write to, of values that nothing computes."""
        return self.put(np.full(shape, 99, np.float32), dtype, offset)

    def get(self, array: Any) -> NDArray[Any]:
        """The values, floats as float32; what lies around them must be as it was."""
        bits = self.stream.download(self._whole[array.pointer])
        first = (array.pointer - self._whole[array.pointer].pointer) // bits.itemsize
        last = first + int(np.prod(array.shape))
        around = np.concatenate([bits[:first], bits[last:]]).view(np.uint8)
        assert (around == 0xFF).all(), "a kernel wrote beside its array"
        return decode(bits[first:last].reshape(array.shape), array.dtype)

    def close(self) -> None:
        self._whole.clear()


def encode(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The values as the bits of a dtype; bfloat16 is rounded to nearest, ties to even."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(DTYPES[dtype])
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(
        np.uint16
    )
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)


def decode(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.astype(np.float32) if dtype == "float16" else bits


def rounded(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The float32 values that a dtype makes of these."""
    return decode(encode(values, dtype), dtype)


@pytest.fixture(scope="session", name="rounded")
def _rounded() -> Callable[[NDArray[Any], str], NDArray[np.float32]]:
    return rounded


@pytest.fixture(scope="session", name="build")
def _build() -> Callable[[str, Path], ctypes.CDLL]:
    return build


@pytest.fixture(scope="session")
def gpu_stream() -> Iterator[Any]:
    from mutoscope.kernels.cuda_core import open_device

    with open_device().stream() as stream:
        yield stream


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench" in metafunc.fixturenames:
        kinds = ["cpu", "gpu"] if metafunc.config.getoption("--gpu") else ["cpu"]
        metafunc.parametrize("bench", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.getfixturevalue(f"{request.param}_stream"))
    yield bench
    bench.close()
