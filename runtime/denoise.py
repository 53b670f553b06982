"""The denoising loop: pure, over a schedule of sigmas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schedulers import Schedule, Scheduler

Array = NDArray[np.float32]
Predict = Callable[[Array, np.float32], Array]


@dataclass(frozen=True)
class Denoised:
    """One step done: its index from 0, and the latents after it."""

    index: int
    latents: Array


def denoise(
    predict: Predict,
    latents: Array,
    scheduler: Scheduler,
    schedule: Schedule,
    hold: Callable[[Array], Array] = lambda latents: latents,
) -> Iterator[Denoised]:
    """From noise to clean latents, a step at a time.

    Args:
        predict: velocity of latents at a timestep, of the latents' shape.
        latents: float32 initial noise; not changed.
        scheduler: the rule of one step.
        schedule: its sigmas and timesteps.
        hold: puts what is given of the clip back in its place.
    """
    latents = hold(latents)
    history: tuple[Array, ...] = ()
    for index, timestep in enumerate(schedule.timesteps):
        velocity = predict(latents, timestep)
        latents, history = scheduler.step(schedule, index, latents, velocity, history)
        latents = hold(latents)
        yield Denoised(index, latents)
