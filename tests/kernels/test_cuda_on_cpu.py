"""The header that runs kernels on a CPU runs them as a GPU would, and stops where a GPU would."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REVERSES = """
extern "C" __global__ void __launch_bounds__(256)
reverses(int* values) {
    __shared__ int kept[256];
    int* mine = values + (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x;
    for (int turn = 0; turn < 3; ++turn) {
        kept[threadIdx.x] = mine[threadIdx.x];
        __syncthreads();
        mine[threadIdx.x] = kept[255 - threadIdx.x];
        __syncthreads();
    }
}
"""
PARTS = """
extern "C" __global__ void __launch_bounds__(256)
parts(int* values) {
    if (threadIdx.x == 7) return;
    __syncthreads();
}
"""
MISALIGNED = """
struct alignas(16) Four { int at[4]; };
extern "C" __global__ void __launch_bounds__(256)
misaligned(int* values) {
    if (threadIdx.x == 0) *reinterpret_cast<Four*>(values + 1) = {{1, 2, 3, 4}};
}
"""
# In a process of its own, which it may end.
LAUNCH = """
import ctypes, sys
memory = (ctypes.c_char * 4096)()
aligned = (ctypes.addressof(memory) + 15) // 16 * 16
cell = ctypes.c_void_p(aligned)
arguments = (ctypes.c_void_p * 1)(ctypes.addressof(cell))
ctypes.CDLL(sys.argv[1])["launch_" + sys.argv[2]](1, 1, 256, arguments)
"""


def test_blocks_threads_and_barriers(build: Any, tmp_path: Path) -> None:
    values = np.arange(6 * 256, dtype=np.int32)
    expected = values.reshape(6, 256)[:, ::-1].ravel().copy()
    cell = ctypes.c_void_p(values.ctypes.data)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(cell))
    build(REVERSES, tmp_path / "reverses").launch_reverses(3, 2, 256, arguments)
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (PARTS, "parts", "1 of 256 threads ended before a barrier"),
        (MISALIGNED, "misaligned", "misaligned address"),
    ],
)
def test_it_stops_where_a_gpu_would(
    build: Any, tmp_path: Path, text: str, name: str, message: str
) -> None:
    build(text, tmp_path / name)
    command = [sys.executable, "-c", LAUNCH, tmp_path / f"{name}.so", name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert message in done.stderr
