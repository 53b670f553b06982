"""A library in the place of `libcuda.so.1`, and our operators for GPUs, built to run on it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cpu_device import CpuStream

SOURCE = Path(__file__).with_suffix(".cpp")


@dataclass(frozen=True)
class Launch:
    """One kernel.

    Attributes:
        kernel: its name.
        shape: blocks and threads along three axes each, and bytes of shared memory.
        stream: whether it is on another than the default one.
        arguments: their bytes.
    """

    kernel: str
    shape: tuple[int, ...]
    stream: bool
    arguments: tuple[bytes, ...]


class FakeLibcuda:
    """The library; its kernels are those that a `CpuStream` runs."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("c++")
        if compiler is None:
            pytest.skip("needs a C++ compiler, such as g++")
        self.path = folder / "fake_libcuda.so"
        command = [compiler, "-std=c++17", "-shared", "-fPIC", "-o", self.path, SOURCE]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(self.path))
        self._library.fake_noted.restype = ctypes.c_char_p

    @property
    def flags(self) -> tuple[str, ...]:
        """By them our operators take this library, and ONNX Runtime's CPU provider takes them."""
        return ("-DRUN_BY=ort::CPU", f'-DCUDA_DRIVER="{self.path}"')

    def reset(self, failing: str = "") -> None:
        """Forget what was launched; calls of that name fail from now on."""
        self._library.fake_reset(failing.encode())

    def launches(self) -> list[Launch]:
        """What was launched since."""
        lines = self._library.fake_noted().decode().splitlines()
        return [_read(line.split()) for line in lines]


def _read(words: list[str]) -> Launch:
    kernel, *numbers = words[:8]
    arguments = tuple(map(bytes.fromhex, words[9:]))
    return Launch(kernel, tuple(map(int, numbers)), words[8] == "stream", arguments)


def machine_code(stream: CpuStream, source: str) -> bytes:
    """What the library takes for the machine code of `source`.cu."""
    return str(stream._library(source)._name).encode() + b"\0"
