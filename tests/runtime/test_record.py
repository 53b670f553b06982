"""The account of a clip."""

from __future__ import annotations

import subprocess
import sys

import numpy as np


def test_peak_memory_is_this_process_own() -> None:
    """A small process started by a large one is small."""
    held = np.ones(400 << 17)  # 400 MB
    program = "from mutoscope.engine.memory import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert held.nbytes == 400 << 20
    assert 10 < float(done.stdout) < 200
