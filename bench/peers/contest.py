"""Engines in turn on the same input: what a run takes, and how far its output is from the first's.

Round by round each engine runs once, so that what slows the machine down for a while slows all of
them; ratios are taken within a round.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..suite import Figures, attempt

Array = NDArray[Any]
Compare = Callable[[Array, Array], Figures]

OURS, OURS_INT8 = "mutoscope fp32", "mutoscope int8"
PAUSE = 0.05
"""Seconds before each run: the threads of the engine before spin for a while."""


def nothing() -> None:
    """What most engines do before and after a run."""


@dataclass(frozen=True)
class Opened:
    """An engine that is ready.

    Attributes:
        run: does the work once and gives its output.
        before: comes before a run that is timed.
        rest: gives back, after a run, memory that the next does not need.
    """

    run: Callable[[], Array]
    before: Callable[[], object] = nothing
    rest: Callable[[], None] = nothing


@dataclass(frozen=True)
class Engine:
    """One way to do the work.

    Attributes:
        name: in tables and plots.
        precision: of its matrix products: "fp32", "bf16" or "int8".
        opener: makes it ready, or raises what keeps it from that.
    """

    name: str
    precision: str
    opener: Callable[[], Opened]


def relative_error(got: Array, wanted: Array) -> Figures:
    """The relative error in the norm of all values.

    Raises:
        ValueError: the shapes differ.
    """
    if got.shape != wanted.shape:
        raise ValueError(f"an output of {got.shape} where the reference has {wanted.shape}")
    exact = wanted.astype(np.float64)
    return {"error": float(np.linalg.norm(got - exact) / np.linalg.norm(exact))}


def frames_error(got: Array, wanted: Array, *, peak: float) -> Figures:
    """The relative error, and the PSNR in dB; `None` where nothing differs."""
    figures = relative_error(got, wanted)
    mean = float(np.square(got.astype(np.float64) - wanted).mean())
    return {**figures, "psnr_db": 10 * math.log10(peak**2 / mean) if mean else None}


def contest(
    engines: Sequence[Engine], repetitions: int, compare: Compare = relative_error
) -> dict[str, Figures]:
    """Run engines in turn, after one run of each that does not count.

    Args:
        engines: the first one's output is what the others' are compared with.
        repetitions: rounds.
        compare: an output with the reference.

    Returns:
        By engine: `state` and perhaps `reason`; where it is done, `seconds` of every run,
        `first_seconds` of opening, compiling and the first run, what `compare` gives, and `ratio`
        and `ratio_int8`: seconds over those of `OURS` and `OURS_INT8`, in the middle and at both
        ends.
    """
    ready: dict[str, Opened] = {}
    reference: list[Array] = []

    def begin(engine: Engine) -> Figures:
        began = time.perf_counter()
        opened = engine.opener()
        output = opened.run()
        first = time.perf_counter() - began
        opened.rest()
        if engine is engines[0]:
            reference.append(output)
        compared = compare(output, reference[0]) if reference else {}
        ready[engine.name] = opened
        return {"precision": engine.precision, "first_seconds": round(first, 3), **compared}

    figures = {engine.name: attempt(partial(begin, engine)) for engine in engines}
    for _ in range(repetitions):
        for name in list(ready):
            turn = attempt(partial(_take_turn, ready[name]))
            if turn["state"] == "done":
                figures[name].setdefault("seconds", []).append(turn["seconds"])
            else:
                figures[name] = turn
                del ready[name]
    return _with_ratios(figures)


def median(figures: Figures) -> float:
    """Of an engine's seconds."""
    seconds: list[float] = figures["seconds"]
    return statistics.median(seconds)


def _take_turn(engine: Opened) -> Figures:
    engine.before()
    time.sleep(PAUSE)
    began = time.perf_counter()
    engine.run()
    spent = time.perf_counter() - began
    engine.rest()
    return {"seconds": round(spent, 6)}


def _with_ratios(figures: Mapping[str, Figures]) -> dict[str, Figures]:
    to = {
        ratio: figures[ours]["seconds"]
        for ratio, ours in (("ratio", OURS), ("ratio_int8", OURS_INT8))
        if "seconds" in figures.get(ours, {})
    }
    return {name: {**found, **_ratios(found, to)} for name, found in figures.items()}


def _ratios(found: Figures, to: Mapping[str, Sequence[float]]) -> Figures:
    if "seconds" not in found:
        return {}
    return {name: _ratio(found["seconds"], ours) for name, ours in to.items()}


def _ratio(seconds: Sequence[float], ours: Sequence[float]) -> Figures:
    ratios = [theirs / own for theirs, own in zip(seconds, ours, strict=True)]
    ends = {"lowest": min(ratios), "highest": max(ratios)}
    return {"median": statistics.median(ratios), **ends}
