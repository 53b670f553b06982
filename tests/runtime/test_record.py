"""The account of a clip."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.engine import memory
from mutoscope.runtime import record

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


def test_a_clip_s_peak_is_settled_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([100.0, 200.0, 300.0])
    monkeypatch.setattr(record, "peak_memory_mb", lambda: next(peaks))
    account = record.Record({}, {}, [], "null", "null", {})
    with account.stage("denoise"):
        pass
    assert account.peak_memory_mb == 100
    account.finish()
    assert account.peak_memory_mb == account.as_dict()["peak_memory_mb"] == 200


@pytest.mark.skipif(not memory.MACHINE.exists(), reason="only Linux says so")
def test_free_memory_is_part_of_the_machine_s(tmp_path: Path, monkeypatch: Any) -> None:
    free = memory.free_memory()
    assert free is not None
    assert 10 << 20 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "none")
    assert memory.free_memory() is None


def test_no_process_has_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    limits = {resource.RLIMIT_DATA: (1 << 20, 1 << 30), resource.RLIMIT_AS: unlimited}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert memory.free_memory() == 1 << 20
