"""What a backend makes of a denoiser on this machine: how long it takes to open, and to run."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..engine import Bundle, EngineOptions, EngineStore, Session, Tensor, open_graph
from ..engine.backends.tensorrt.engines import build_engine, describe
from ..engine.backends.tensorrt.package import PACKAGES
from ..engine.open import GpuBackend, find_backend
from ..engine.profiles import LatentSize
from ..engine.session import on_stream
from ..errors import UserError
from ..kernels.device import Stream
from ..runtime.conditioning import Conditioning

GPU_BACKENDS = ("onnxruntime-cuda", "onnxruntime-rtx", "tensorrt", "tensorrt-rtx")
GB = 2**30
REPETITIONS = 10


def open_stream(backend: str) -> Stream | None:
    """A stream for a backend's sessions; `None` for one of the CPU.

    Raises:
        UserError: what it needs is not here.
    """
    opener = find_backend(backend)
    gpu = hasattr(opener, "open_stream")
    return cast("GpuBackend", opener).open_stream() if gpu else None


def found(backend: str) -> dict[str, Any]:
    """Whether a backend of GPUs can run here, its version and its GPU, or what it lacks."""
    package = PACKAGES.get(backend)
    try:
        stream = open_stream(backend)
        assert stream is not None
        if package is not None and package.ahead_of_time:
            package.check_targets((stream.device.arch,))
    except UserError as error:
        return {"runs": False, "reason": str(error)}
    module = importlib.import_module(package.module if package else "onnxruntime")
    gpu = stream.device
    return {"runs": True, "version": module.__version__, "gpu": gpu.name, "arch": gpu.arch}


@dataclass(frozen=True)
class Case:
    """One denoiser run.

    Attributes:
        bundle: whose denoiser.
        size: of the latents.
        batch: how many predictions at once.
    """

    bundle: Path
    size: LatentSize
    batch: int = 1

    def feeds(self, bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
        """Random latents and text, the same each time."""
        random = np.random.default_rng(0)
        text, channels = bundle.manifest.text, bundle.manifest.latents.channels
        size = (self.size.frames, self.size.height, self.size.width)
        latents = random.standard_normal((self.batch, channels, *size), np.float32)
        tokens = (self.batch, text.max_tokens, text.embedding_dim)
        by_frame = bundle.manifest.denoiser.image == "first_frame"
        given: Conditioning[Any] = Conditioning(by_frame)
        return {
            "hidden_states": latents,
            "timestep": given.timesteps(np.float32(500), latents),
            "encoder_hidden_states": random.standard_normal(tokens, np.float32),
        }


def denoiser(backend: str, case: Case, *, beside_cpu: bool = False) -> dict[str, Any]:
    """Build the engine where the backend builds any, open it, run it.

    Returns:
        Seconds to build and to open, and of the first run (an engine may be compiled then);
        milliseconds of one run among many in a row on the device, and of handing one over; GB of
        device memory that were taken between beginning and end, which the pool keeps, so that it is
        the most; whether every output is a finite number; and, beside the CPU's, the largest
        difference from its output, over its largest value.

    Raises:
        UserError: what the backend needs is not here, or it is for other GPUs.
    """
    bundle, stream = Bundle.open(case.bundle), open_stream(backend)
    before = stream.device.memory_in_use() if stream else 0
    built = _build(backend, bundle, case.size, stream)
    began = time.perf_counter()
    options = EngineOptions(stream=stream)
    with open_graph(bundle, "denoiser", backend=backend, options=options) as session:
        opened = time.perf_counter() - began
        times, output = timed(session, case.feeds(bundle), stream)
        values = np.asarray(output)
        used = stream.device.memory_in_use() - before if stream else None
    error = {"error": _error(values, bundle, case)} if beside_cpu else {}
    return {
        "latents": list(values.shape),
        **built,
        "open_seconds": round(opened, 3),
        **times,
        **({"memory_gb": round(used / GB, 3)} if used is not None else {}),
        "finite": bool(np.isfinite(values).all()),
        **error,
    }


def timed(
    session: Session, feeds: Mapping[str, Tensor], stream: Stream | None
) -> tuple[dict[str, float], Tensor]:
    """What a run takes, in milliseconds, and what it gives; feeds lie on the device already."""
    if stream is not None:
        feeds = {name: on_stream(stream, feed) for name, feed in feeds.items()}
    began = time.perf_counter()
    output = session.run(feeds)["sample"]
    if stream is not None:
        stream.synchronize()
    first = time.perf_counter() - began
    each = _on_stream(session, feeds, stream) if stream else _on_host(session, feeds)
    return {"first_run_seconds": round(first, 3), **each}, output


def _on_stream(session: Session, feeds: Mapping[str, Tensor], stream: Stream) -> dict[str, float]:
    begin, began = stream.record(), time.perf_counter()
    for _ in range(REPETITIONS):
        session.run(feeds)
    handed = time.perf_counter() - began
    end = stream.record()
    end.synchronize()
    return {
        "run_ms": round(end.milliseconds_since(begin) / REPETITIONS, 4),
        "handing_over_ms": round(1e3 * handed / REPETITIONS, 4),
    }


def _on_host(session: Session, feeds: Mapping[str, Tensor]) -> dict[str, float]:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        session.run(feeds)
        times.append(time.perf_counter() - began)
    return {"run_ms": round(1e3 * statistics.median(times), 4)}


def _error(values: np.ndarray[Any, Any], bundle: Bundle, case: Case) -> float:
    with open_graph(bundle, "denoiser") as session:
        wanted = np.asarray(session.run(case.feeds(bundle))["sample"])
    return float(f"{np.abs(values - wanted).max() / np.abs(wanted).max():.3g}")


def _build(backend: str, bundle: Bundle, size: LatentSize, stream: Stream | None) -> dict[str, Any]:
    package = PACKAGES.get(backend)
    if package is None or stream is None:
        return {}
    spec = describe(package, bundle, "denoiser", [size], device=stream.device)
    record = build_engine(EngineStore(), bundle, spec, None, lambda *_: None).record
    return {
        "build_seconds": record.seconds,
        "engine_mb": round(record.plan.size / 1e6, 1),
        "layers": record.layers,
    }
