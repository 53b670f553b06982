"""Repeat something after a warm-up, and say how long it took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .energy import Meter, find_meter


@dataclass(frozen=True)
class Measurement:
    """What one stage took.

    Attributes:
        stage: its name.
        seconds: of each repetition.
        scope: what was timed, in words.
        joules: that the whole machine used for one repetition; `None` where nothing counts them.
    """

    stage: str
    seconds: tuple[float, ...]
    scope: str
    joules: float | None = None

    @property
    def mean(self) -> float:
        """Mean, in seconds."""
        return statistics.fmean(self.seconds)

    @property
    def deviation(self) -> float:
        """Sample standard deviation, in seconds; 0 where there is one repetition."""
        return statistics.stdev(self.seconds) if len(self.seconds) > 1 else 0.0


@dataclass(frozen=True)
class Repeat:
    """How often: runs that do not count, then runs that do."""

    warmup: int = 1
    repetitions: int = 5
    meter: Meter = field(default_factory=find_meter)

    def __call__(self, stage: str, scope: str, run: Callable[[], object]) -> Measurement:
        """Time a callable as a whole, and count its energy."""
        for _ in range(self.warmup):
            run()
        before = self.meter.read()
        seconds = tuple(_timed(run) for _ in range(self.repetitions))
        used = self.meter.since(before)
        return Measurement(stage, seconds, scope, None if used is None else used / len(seconds))

    def given(self, stage: str, scope: str, seconds: Callable[[], float]) -> Measurement:
        """Take times that the callable itself tells, of a part of what it does: no energy."""
        for _ in range(self.warmup):
            seconds()
        return Measurement(stage, tuple(seconds() for _ in range(self.repetitions)), scope)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
