"""Backends that run on the GPU at hand."""

from __future__ import annotations

import pytest
from mutoscope.bench.gpu_engines import found


def runnable(backend: str) -> str:
    """Its name again; where it cannot run the test is skipped, and says why."""
    what = found(backend)
    if not what["runs"]:
        pytest.skip(what["reason"])
    return backend
