"""What a run of a session takes, by the device's clock where there is one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..engine import Session, Tensor
from ..engine.session import on_stream
from ..kernels.device import Stream
from .energy import joules_a_run

REPETITIONS = 10


def timed(
    session: Session,
    feeds: Mapping[str, Tensor],
    stream: Stream | None,
    *,
    over: bool = False,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a run takes: milliseconds, and joules; and what it gives.

    Args:
        session: that runs.
        feeds: on the device already, or brought there before any clock runs.
        stream: of the device; `None` on the CPU.
        over: each run writes over the results of the one before.
    """
    if stream is not None:
        feeds = {name: on_stream(stream, feed) for name, feed in feeds.items()}
    began = time.perf_counter()
    outputs = session.run(feeds)
    if stream is not None:
        stream.synchronize()
    first = time.perf_counter() - began
    run = partial(session.run, feeds, **({"into": outputs} if over else {}))
    each = _on_stream(run, stream) if stream else _on_host(run)

    def finished() -> None:
        run()
        if stream is not None:
            stream.synchronize()

    return {
        "first_run_seconds": round(first, 3),
        **each,
        "joules": joules_a_run(finished),
    }, outputs


def _on_stream(run: Callable[[], object], stream: Stream) -> dict[str, float]:
    begin, began = stream.record(), time.perf_counter()
    for _ in range(REPETITIONS):
        run()
    handed = time.perf_counter() - began
    end = stream.record()
    end.synchronize()
    return {
        "run_ms": round(end.milliseconds_since(begin) / REPETITIONS, 4),
        "handing_over_ms": round(1e3 * handed / REPETITIONS, 4),
    }


def _on_host(run: Callable[[], object]) -> dict[str, float]:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return {"run_ms": round(1e3 * statistics.median(times), 4)}
