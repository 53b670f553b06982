"""What our own Python takes of a recorded step: from below, as cuda-core and the driver do nothing.

What is asserted is how many functions a step calls, the same on every machine; the time, which a
busy neighbour doubles, is told by `pytest --log-cli-level=INFO tests/bench/test_host_step.py`.
`tests/gpu` measures all of it, and holds it to its time.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Iterator, Mapping
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from mutoscope.bench.gpu_loop import host_seconds
from mutoscope.engine import Bundle, Sessions
from mutoscope.engine.backends.null import NullSession
from mutoscope.engine.manifest import DENOISERS
from mutoscope.engine.open import EngineOptions
from mutoscope.engine.session import Tensor
from mutoscope.kernels.cuda_core import CudaDevice
from mutoscope.kernels.cuda_stream import CudaStream
from mutoscope.runtime.pipeline import Pipeline

log = logging.getLogger(__name__)
STEPS, FIRST, PIECE = 510, 10, 20
BOUNDS = {"euler": 300, "unipc": 500}
"""Calls; UniPC's history is copied too. A tenth more than are made: 270 and 455."""


class IdleDevice(CudaDevice):
    """The layer on cuda-core, over a device that does nothing at once."""

    memory = 8 << 30
    arch = "sm_89"

    def __init__(self) -> None:
        buffer = SimpleNamespace(handle=4096)
        super().__init__(
            SimpleNamespace(set_current=lambda: None, allocate=lambda size, stream: buffer)
        )

    def stream(self) -> CudaStream:
        return CudaStream(self, IdleStream())

    def kernel(self, source: str, name: str) -> Any:
        return name


class IdleStream:
    """Cuda-core's stream, its builder of graphs, and the graph."""

    handle = 7

    def create_graph_builder(self) -> IdleStream:
        return self

    def begin_building(self) -> IdleStream:
        return self

    def complete(self) -> IdleStream:
        return self

    def end_building(self) -> None: ...

    def launch(self, stream: IdleStream) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class IdleDenoiser(NullSession):
    """Leaves new arrays on the device as they are."""

    recordable = True
    stream: CudaStream

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"sample": self.stream.empty(feeds["hidden_states"].shape, "float32")}


@pytest.fixture
def pipe(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    core = pytest.importorskip("cuda.core", reason="needs cuda-core")
    done = (driver.CUresult.CUDA_SUCCESS,)
    for name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoDAsync"):
        monkeypatch.setattr(driver, name, lambda *given: done)
    monkeypatch.setattr(core, "launch", lambda *given: None)

    def open_session(bundle: Bundle, name: str, options: EngineOptions) -> NullSession:
        kind = IdleDenoiser if name in DENOISERS else NullSession
        session = kind(name, bundle.graph(name))
        session.stream = options.stream  # type: ignore[attr-defined]
        return session

    opener: Any = SimpleNamespace(
        open_stream=lambda: IdleDevice().stream(), open_session=open_session
    )
    with Pipeline(bundle, Sessions(bundle, "null", EngineOptions(), opener=opener)) as pipe:
        yield pipe


@pytest.mark.parametrize("scheduler", BOUNDS)
def test_a_recorded_step_asks_little_of_the_host(pipe: Pipeline, scheduler: str) -> None:
    options = {"steps": STEPS, "seed": 5, "scheduler": scheduler, "guidance_scale": 4.0}
    stream = pipe.stream("a red circle", **options)
    list(stream)
    assert set(range(FIRST, STEPS)) <= set(stream.record.recorded_steps)
    spent = host_seconds(pipe, "a red circle", options)
    pieces = [spent[start : start + PIECE] for start in range(FIRST, STEPS, PIECE)]
    least = min(map(statistics.median, pieces))  # other work only adds to it
    calls = statistics.median(calls_made(pipe, "a red circle", options)[FIRST:])
    log.info("%s: %.0f µs and %.0f calls a step", scheduler, 1e6 * least, calls)
    assert calls <= BOUNDS[scheduler]


def calls_made(pipe: Pipeline, prompt: str, options: dict[str, Any]) -> list[int]:
    """How many functions each step of a clip calls, Python's own and those written in C."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    steps = iter(pipe.stream(prompt, **options))
    spent = []
    sys.setprofile(count)
    try:
        for _ in steps:
            spent.append(made)
            made = 0
    finally:
        sys.setprofile(None)
    return spent
