"""Repeat something after a warm-up, and say how long it took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """What one stage took.

    Attributes:
        stage: its name.
        seconds: of each repetition.
        scope: what was timed, in words.
    """

    stage: str
    seconds: tuple[float, ...]
    scope: str

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

    def __call__(self, stage: str, scope: str, run: Callable[[], object]) -> Measurement:
        """Time a callable as a whole."""
        return self.given(stage, scope, lambda: _timed(run))

    def given(self, stage: str, scope: str, seconds: Callable[[], float]) -> Measurement:
        """Take times that the callable itself tells."""
        for _ in range(self.warmup):
            seconds()
        return Measurement(stage, tuple(seconds() for _ in range(self.repetitions)), scope)


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
