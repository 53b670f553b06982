"""The denoising loop: pure, over a schedule of sigmas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np

from .arithmetic import A, Arithmetic, Prediction
from .conditioning import Conditioning
from .schedulers import Schedule, Scheduler

Predict: TypeAlias = Callable[[A, np.float32], Prediction[A]]
"""The denoiser's word on latents at a timestep."""


@dataclass(frozen=True)
class Denoised(Generic[A]):
    """One step done.

    Attributes:
        index: from 0.
        latents: after it.
        foretold: without the denoiser.
    """

    index: int
    latents: A
    foretold: bool


def denoise(
    predict: Predict[A],
    latents: A,
    scheduler: Scheduler,
    schedule: Schedule,
    arithmetic: Arithmetic[A],
    given: Conditioning[A],
) -> Iterator[Denoised[A]]:
    """From noise to clean latents, a step at a time.

    Args:
        predict: the denoiser, guided; or what foretells some of its words.
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
        yield Denoised(index, latents, prediction.foretold)
