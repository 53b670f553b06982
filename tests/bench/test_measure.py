"""Repetitions are counted, warm-up is not."""

from __future__ import annotations

import pytest
from mutoscope.bench.measure import Measurement, Repeat


def test_warmup_does_not_count() -> None:
    times = iter([9.0, 8.0, 1.0, 2.0, 6.0])
    measured = Repeat(warmup=2, repetitions=3).given("step", "one", lambda: next(times))
    assert measured == Measurement("step", (1.0, 2.0, 6.0), "one")
    assert measured.mean == 3.0
    assert measured.deviation == pytest.approx(7**0.5)


def test_one_repetition_has_no_deviation() -> None:
    assert Measurement("step", (4.0,), "one").deviation == 0


def test_the_whole_call_is_timed() -> None:
    calls: list[int] = []
    measured = Repeat(warmup=1, repetitions=2)("step", "one", lambda: calls.append(1))
    assert len(calls) == 3
    assert all(0 <= seconds < 0.1 for seconds in measured.seconds)
