"""Every backend that can run on the GPU at hand, and the embedded model on it."""

from __future__ import annotations

from collections.abc import Iterator

import mutoscope
import pytest
from mutoscope.bench.gpu_engines import GPU_BACKENDS, found
from mutoscope.runtime.pipeline import Pipeline


@pytest.fixture(scope="module", params=GPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    what = found(request.param)
    if not what["runs"]:
        pytest.skip(what["reason"])
    return str(request.param)


@pytest.fixture
def pipe(backend: str) -> Iterator[Pipeline]:
    with mutoscope.load(preset="full", backend=backend) as opened:
        yield opened
