"""Every backend that can run on the GPU at hand, and the embedded model on it."""

from __future__ import annotations

from collections.abc import Iterator

import mutoscope
import pytest
from mutoscope.bench.gpu_engines import GPU_BACKENDS, open_stream
from mutoscope.kernels.device import Stream
from mutoscope.runtime.pipeline import Pipeline
from runnable import runnable


@pytest.fixture(scope="module", params=GPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return runnable(request.param)


@pytest.fixture(scope="module")
def stream(backend: str) -> Stream:
    opened = open_stream(backend)
    assert opened is not None
    return opened


@pytest.fixture
def pipe(backend: str) -> Iterator[Pipeline]:
    with mutoscope.load(preset="full", backend=backend) as opened:
        yield opened
