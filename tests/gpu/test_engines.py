"""TensorRT's engines on a real GPU: LoRAs, streamed weights, what builds time, others' engines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_checks import (
    EMBEDDED,
    check_anothers_engine,
    check_budgets,
    check_refit,
    check_timings,
)
from mutoscope.bench.gpu_engines import Case
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import PACKAGES, TENSORRT, TENSORRT_RTX
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import Built, Engine, EngineStore
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.device import Stream
from runnable import runnable

pytestmark = pytest.mark.gpu

# TensorRT may compute fp32 in TF32, whose mantissa has 10 bits.
FLOOR_DB, MOST_ERROR = 30, 1e-2
APART_DB = 10
"""What a LoRA changes, beside what a backend does."""


@pytest.fixture(scope="module", params=PACKAGES)
def backend(request: pytest.FixtureRequest) -> str:
    return runnable(request.param)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(EMBEDDED)


@pytest.fixture(scope="module")
def size(bundle: Bundle) -> LatentSize:
    return LatentSize.default(bundle.manifest)


def made(
    bundle: Bundle,
    backend: str,
    stream: Stream,
    size: LatentSize,
    *flags: str,
    store: EngineStore | None = None,
    targets: tuple[str, ...] = (),
) -> Engine:
    """Build an engine of the denoiser, for this GPU unless targets are named."""
    device = None if targets else stream.device
    spec = describe(PACKAGES[backend], bundle, "denoiser", [size], targets, flags, device)
    return build_engine(store or EngineStore(), bundle, spec, None, lambda *_: None)


def run(bundle: Bundle, backend: str, stream: Stream, size: LatentSize) -> Any:
    options = EngineOptions(stream=stream)
    with open_graph(bundle, "denoiser", backend=backend, options=options) as session:
        return np.asarray(session.run(Case(EMBEDDED, size).feeds(bundle))["sample"])


def test_loras_refit_the_engine(
    bundle: Bundle, backend: str, stream: Stream, size: LatentSize
) -> None:
    made(bundle, backend, stream, size, "refit")
    check_refit(backend, {"steps": 4, "seed": 5}, FLOOR_DB, APART_DB)


def test_weights_are_streamed_within_a_budget(
    bundle: Bundle, backend: str, stream: Stream, size: LatentSize
) -> None:
    made(bundle, backend, stream, size, "weight-streaming")
    check_budgets(backend, stream, size, MOST_ERROR)


def test_what_a_build_timed_is_there_for_the_next(
    bundle: Bundle, backend: str, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    if PACKAGES[backend].ahead_of_time:
        pytest.skip(f"{backend} times nothing as it builds")
    check_timings(lambda size: made(bundle, backend, stream, size), caplog)


def test_what_tensorrt_did_not_time_is_timed_anew(
    bundle: Bundle,
    backend: str,
    stream: Stream,
    size: LatentSize,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if backend != TENSORRT.backend:
        pytest.skip(f"{backend} times nothing as it builds")
    made(bundle, backend, stream, LatentSize(1, 4, 4))
    (path,) = (EngineStore().folder / ".caches").iterdir()
    EngineStore().save_cache(path.name, b"no timings" * 100)
    with caplog.at_level(logging.INFO, "mutoscope"):
        made(bundle, backend, stream, size)
    assert caplog.messages == [f"TensorRT does not take {path.name}; it times anew"]


def test_another_store_s_engine_is_set_aside(
    bundle: Bundle,
    backend: str,
    stream: Stream,
    size: LatentSize,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_anothers_engine(
        lambda store: made(bundle, backend, stream, size, store=store),
        lambda: run(bundle, backend, stream, size),
        tmp_path,
        caplog,
    )


@pytest.fixture
def other(backend: str, stream: Stream) -> str:
    """A compute capability that this GPU has not."""
    package = PACKAGES[backend]
    if not package.ahead_of_time:
        pytest.skip(f"{backend} builds for the GPU at hand alone")
    return next(c for c in package.capabilities() if c != stream.device.arch)


def test_another_gpu_s_engine_is_left_alone(
    bundle: Bundle, backend: str, stream: Stream, size: LatentSize, other: str
) -> None:
    theirs = made(bundle, backend, stream, size, targets=(other,))
    values = run(bundle, backend, stream, size)
    ours, kept = EngineStore().engines()
    assert (ours.record.spec.targets, kept) == ((stream.device.arch,), theirs)
    with open_graph(bundle, "denoiser") as session:
        wanted = np.asarray(session.run(Case(EMBEDDED, size).feeds(bundle))["sample"])
    assert np.abs(values - wanted).max() <= MOST_ERROR * np.abs(wanted).max()


def test_another_version_s_engine_is_left_alone(
    bundle: Bundle,
    backend: str,
    stream: Stream,
    size: LatentSize,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = PACKAGES[backend]
    with monkeypatch.context() as patch:
        patch.setattr(package.load(), "__version__", "0.1")
        old = made(bundle, backend, stream, size)
    run(bundle, backend, stream, size)
    ours, kept = EngineStore().engines()
    assert (ours.record.spec.version, kept) == (package.version(), old)


def keep(bundle: Bundle, backend: str, stream: Stream, size: LatentSize, plan: bytes) -> None:
    """Say that a plan is an engine for this GPU."""
    spec = describe(PACKAGES[backend], bundle, "denoiser", [size], device=stream.device)
    EngineStore().get(spec, "mini-wan", lambda: Built(plan, "", {}, 0.0, 0.0, 0.0))


def test_what_is_no_engine_is_refused(
    bundle: Bundle, backend: str, stream: Stream, size: LatentSize
) -> None:
    keep(bundle, backend, stream, size, b"no engine" * 1000)
    with pytest.raises(MutoscopeError, match="^denoiser: tensorrt.*(refuses the|cannot open its) "):
        run(bundle, backend, stream, size)


def test_an_engine_that_belies_its_gpu_is_refused(
    bundle: Bundle, backend: str, stream: Stream, size: LatentSize, other: str, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    with made(bundle, backend, stream, size, targets=(other,), store=store).plan() as plan:
        keep(bundle, backend, stream, size, plan[:])
    with pytest.raises(MutoscopeError, match=f"^denoiser: {TENSORRT_RTX.backend} refuses the eng"):
        run(bundle, backend, stream, size)
