"""Times of work on a device, taken by its own clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from ..energy import joules_a_run


def has_cuda() -> bool:
    """Whether PyTorch finds a CUDA device."""
    return torch.cuda.is_available()


def seconds(work: Callable[[], object], device: str, repetitions: int = 10) -> float:
    """The median time of one call, in seconds, after a warm-up of two."""
    for _ in range(2):
        work()
    times = [_events(work) if device == "cuda" else _clock(work) for _ in range(repetitions)]
    return statistics.median(times)


def wall_seconds(work: Callable[[], object], device: str, repetitions: int) -> float:
    """The median time of one call by the host's clock, its work on the device done; after one."""
    times = []
    for _ in range(1 + repetitions):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def joules(work: Callable[[], object], device: str) -> float | str:
    """What the machine uses for one call, its work on the device done; or that nothing counts."""

    def finished() -> None:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    return joules_a_run(finished)


def device_memory_gb(device: str) -> float | None:
    """The device's memory that is taken, by all processes, in GB (2^30 bytes)."""
    if device != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30


def forget_peak_memory(device: str) -> None:
    """Begin anew with `peak_memory_gb`."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gb(device: str) -> float | None:
    """The most device memory that tensors have held so far, in GB (2^30 bytes)."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None


def _events(work: Callable[[], object]) -> float:
    begin, end = (_event() for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds / 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _clock(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
