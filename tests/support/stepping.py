"""One scheduler step by itself, as the loop takes it together with guidance."""

from __future__ import annotations

from typing import Any

from mutoscope.kernels.guided_step import guided_step
from mutoscope.runtime.schedulers import Schedule, Scheduler


def step(
    scheduler: Scheduler,
    schedule: Schedule,
    index: int,
    latents: Any,
    velocity: Any,
    history: tuple[Any, ...] = (),
) -> tuple[Any, tuple[Any, ...]]:
    """The latents at the next sigma, and the history for the next step."""
    coefficients = scheduler.coefficients(schedule, index, len(history))
    moved, *kept = guided_step(coefficients, latents, velocity, history=history)
    return moved, tuple(kept)
