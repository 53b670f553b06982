"""The account of a clip."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import pytest

FREE = """
from mutoscope.engine.memory import return_free_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 / 1024
bytearray(30 << 20)  # freed: from now on what is smaller comes from the heap
blocks = [bytearray(1 << 20) for _ in range(200)]
last = bytearray(1 << 20)  # so that the heap cannot shrink by itself
held = resident()
del blocks
kept = resident()
return_free_memory()
print(held - kept, held - resident())
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not every C library can do it"
)
def test_free_memory_is_returned() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FREE], capture_output=True, text=True, check=True
    )
    before, after = map(float, done.stdout.split())
    assert before < 50 < 150 < after


def test_peak_memory_is_this_process_own() -> None:
    """A small process started by a large one is small."""
    held = np.ones(400 << 17)  # 400 MB
    program = "from mutoscope.engine.memory import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert held.nbytes == 400 << 20
    assert 10 < float(done.stdout) < 200
