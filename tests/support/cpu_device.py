"""A CPU in a GPU's place: kernels built by the C++ compiler, behind the device layer's protocol.

A thread of a block is a fiber; see tests/kernels/cuda_on_cpu.h. All is done when it is asked for,
but for what is being recorded.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.compiler import read_source
from mutoscope.kernels.device import DTYPES, Argument
from mutoscope.kernels.recording import Rehearsal
from numpy.typing import NDArray

HEADER = Path(__file__).parents[1] / "kernels" / "cuda_on_cpu.h"
KERNEL_NAMES = re.compile(r"^\w*KERNEL\((\w+),|__launch_bounds__\([^)]*\)\n(\w+)\(", re.MULTILINE)
# Stops at the first misaligned access, index out of bounds, overflow or impossible conversion.
SANITIZE = ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]


@dataclass(frozen=True, eq=False)
class CpuArray:
    """Host memory in the place of a device's."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> CpuArray:
        row = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return dataclasses.replace(self, pointer=self.pointer + start * row, shape=shape)

    def reshape(self, shape: tuple[int, ...]) -> CpuArray:
        return dataclasses.replace(self, shape=shape)

    def kept_by(self, owner: object) -> CpuArray:
        return dataclasses.replace(self, owner=owner)

    def values(self) -> NDArray[Any]:
        """A view of the memory."""
        memory = (ctypes.c_char * self.nbytes).from_address(self.pointer)
        memory.owner = self.owner
        return np.frombuffer(memory, DTYPES[self.dtype]).reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values(), dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        typestr, data = DTYPES[self.dtype].str, (self.pointer, False)
        return {"version": 3, "shape": self.shape, "typestr": typestr, "data": data}

    def __dlpack__(self, **options: Any) -> Any:
        return self.values().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values().__dlpack_device__()


class CpuStream:
    """Runs kernels at once, in this process, and notes what was asked for in `calls`."""

    handle = 7

    def __init__(self, folder: Path) -> None:
        self._library = cache(lambda source: build(read_source(source), folder / source))
        self.calls: list[str] = []
        self._rehearsal: Rehearsal[CpuArray] = Rehearsal()
        self._recorded: list[Callable[[], Any]] | None = None
        self.device = SimpleNamespace(
            index=0,
            primary=True,
            name="a CPU",
            arch="sm_89",
            driver=13,
            memory=8 << 30,
            set_current=lambda: None,
            stream=lambda: self,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def empty(self, shape: Sequence[int], dtype: str) -> CpuArray:
        def make() -> CpuArray:
            return self._new(np.full(shape, 77, DTYPES[dtype]), dtype)

        return self._rehearsal.array(tuple(shape), dtype, make)

    def adopt(self, foreign: Any) -> CpuArray:
        told = foreign.__cuda_array_interface__
        self.calls.append("adopt")
        if told.get("strides"):
            raise MutoscopeError("an array in C order without gaps is needed")
        return CpuArray(foreign, told["data"][0], told["shape"], np.dtype(told["typestr"]).name)

    def upload(self, values: NDArray[Any], dtype: str | None = None) -> CpuArray:
        self._refuse_to_record()
        self.calls.append(f"upload {values.nbytes}")
        return self._new(np.array(values, order="C"), dtype or values.dtype.name)

    def allocate(self, shape: Sequence[int], dtype: str) -> CpuArray:
        self.calls.append("allocate")
        return self._new(np.full(shape, 77, DTYPES[dtype]), dtype)

    def fetch(self, array: CpuArray) -> Callable[[], NDArray[Any]]:
        values = self.download(array)
        return lambda: values

    def record(self) -> Any:
        return SimpleNamespace(synchronize=lambda: self.calls.append("wait"))

    def wait(self, event: Any) -> None:
        pass

    def download(self, array: CpuArray) -> NDArray[Any]:
        self._refuse_to_record()
        self.calls.append(f"download {array.nbytes}")
        return array.values().copy()

    def copy(self, source: CpuArray, target: CpuArray) -> None:
        assert (source.shape, source.dtype) == (target.shape, target.dtype)
        self.do(lambda: target.values().__setitem__(..., source.values()))

    def clear(self, array: CpuArray) -> None:
        self.do(lambda: array.values().fill(0))

    def capture(self, work: Callable[[], None]) -> Any:
        def record(work: Callable[[], None]) -> list[Callable[[], Any]]:
            self._recorded = recorded = []
            try:
                work()
            finally:
                self._recorded = None
            return recorded

        recorded, arrays = self._rehearsal.perform(work, record)

        def launch(arrays: Any = arrays) -> None:
            self.calls.append("launch graph")
            for again in recorded:
                again()

        return SimpleNamespace(launch=launch)

    def do(self, work: Callable[[], Any]) -> None:
        """Work of the device: done now, or recorded."""
        if self._recorded is None:
            work()
        else:
            self._recorded.append(work)

    def launch(
        self, source: str, kernel: str, grid: tuple[int, int], arguments: Sequence[Argument]
    ) -> None:
        self.calls.append(f"launch {kernel}")
        library = self._library(source)
        assert len(arguments) == library[f"count_{kernel}"]()
        cells = [_cell(argument) for argument in arguments]

        def run() -> None:
            addresses = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
            library[f"launch_{kernel}"](*map(ctypes.c_uint, (*grid, 256)), addresses)

        self.do(run)

    def synchronize(self) -> None:
        self._refuse_to_record()
        self.calls.append("synchronize")

    def _refuse_to_record(self) -> None:
        if self._recorded is not None:
            raise MutoscopeError("what passes through the host cannot be recorded")

    @staticmethod
    def _new(values: NDArray[Any], dtype: str) -> CpuArray:
        return CpuArray(values, values.ctypes.data, values.shape, dtype)


def _cell(argument: Argument) -> NDArray[Any]:
    """The argument in memory, as a kernel's caller puts it there."""
    if isinstance(argument, np.generic):
        return np.asarray(argument)
    return np.asarray(argument.pointer if argument else 0, np.uint64)


def build(text: str, stem: Path) -> ctypes.CDLL:
    """A library of the kernels in a source, from `stem`.cpp."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler, such as g++")
    names = [name or other for name, other in KERNEL_NAMES.findall(text)]
    exports = "\n".join(f"EXPORT({name})" for name in names)
    program, library = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    program.write_text(f'#include "{HEADER}"\n{text}\n{exports}\n')
    command = [compiler, "-std=c++17", "-O1", "-ffp-contract=off", *SANITIZE, "-shared", "-fPIC"]
    done = subprocess.run([*command, "-o", library, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))
