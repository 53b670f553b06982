"""The denoising loop: pure, over a schedule of sigmas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic

import numpy as np

from .arithmetic import A, Arithmetic, Prediction
from .conditioning import Conditioning
from .schedulers import Schedule, Scheduler


@dataclass(frozen=True)
class Denoised(Generic[A]):
    """One step done: its index from 0, and the latents after it."""

    index: int
    latents: A


def denoise(
    predict: Callable[[A, np.float32], Prediction[A]],
    latents: A,
    scheduler: Scheduler,
    schedule: Schedule,
    arithmetic: Arithmetic[A],
    given: Conditioning[A],
) -> Iterator[Denoised[A]]:
    """From noise to clean latents, a step at a time.

    Args:
        predict: the denoiser's word on latents at a timestep.
        latents: float32 initial noise, with what is given in its place; not changed.
        scheduler: the rule of one step.
        schedule: its sigmas and timesteps.
        arithmetic: computes the step, where the latents lie.
        given: what is put back in its place after each step.
    """
    history: list[A] = []
    for index, timestep in enumerate(schedule.timesteps):
        prediction = predict(latents, timestep)
        coefficients = scheduler.coefficients(schedule, index, len(history))
        moved, *history = arithmetic.step(coefficients, latents, prediction, history)
        latents = given.hold(moved, arithmetic)
        arithmetic.wait()
        yield Denoised(index, latents)
