"""The denoising loop: pure, over a schedule of sigmas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
        recorded: launched as a whole.
    """

    index: int
    latents: A
    foretold: bool
    recorded: bool


@dataclass(frozen=True)
class Taken(Generic[A]):
    """What a step gave.

    Attributes:
        arrays: the latents, and the scheduler's history.
        foretold: without the denoiser.
        recorded: launched as a whole.
    """

    arrays: tuple[A, ...]
    foretold: bool = False
    recorded: bool = False


Step: TypeAlias = Callable[[tuple[A, ...], np.float32, NDArray[np.float64]], Taken[A]]
"""From latents and history, at a timestep and with a scheduler's coefficients, to the next."""


@dataclass(frozen=True)
class Steps(Generic[A]):
    """Takes steps.

    Attributes:
        predict: the denoiser, guided; or what foretells some of its words.
        arithmetic: computes the step, where the latents lie.
        given: what is put back in its place after each step.
    """

    predict: Predict[A]
    arithmetic: Arithmetic[A]
    given: Conditioning[A]

    def __call__(
        self, arrays: tuple[A, ...], timestep: np.float32, coefficients: NDArray[np.float64]
    ) -> Taken[A]:
        """From latents and history to the next."""
        prediction = self.predict(arrays[0], timestep)
        taken = moved(self.arithmetic, self.given, coefficients, arrays, prediction)
        return Taken(taken, foretold=prediction.foretold)


@dataclass(frozen=True)
class ZeroInit(Generic[A]):
    """Takes some steps with a velocity of zero, without the denoiser, and leaves others to another.

    Out of pure noise a guided prediction can be further off than none. Source: Fan et al., 2025
    (CFG-Zero*, arXiv 2503.18886), section 4.2.

    Attributes:
        step: takes the others.
        arithmetic: computes the step, where the latents lie.
        given: what is put back in its place after each step.
        timesteps: of the steps without velocity.
    """

    step: Step[A]
    arithmetic: Arithmetic[A]
    given: Conditioning[A]
    timesteps: frozenset[float]

    def __call__(
        self, arrays: tuple[A, ...], timestep: np.float32, coefficients: NDArray[np.float64]
    ) -> Taken[A]:
        """From latents and history to the next."""
        if float(timestep) not in self.timesteps:
            return self.step(arrays, timestep, coefficients)
        still = coefficients.copy()
        still[:, 1] = 0  # the velocity's: what stands for it counts nothing
        velocity = Prediction(arrays[0])
        return Taken(moved(self.arithmetic, self.given, still, arrays, velocity))


def moved(
    arithmetic: Arithmetic[A],
    given: Conditioning[A],
    coefficients: NDArray[np.float64] | A,
    arrays: Sequence[A],
    prediction: Prediction[A],
) -> tuple[A, ...]:
    """Latents and history after a step, with what is given in its place; new arrays."""
    latents, *history = arrays
    latents, *history = arithmetic.step(coefficients, latents, prediction, history)
    return given.hold(latents, arithmetic), *history


def denoise(
    step: Step[A],
    latents: A,
    scheduler: Scheduler,
    schedule: Schedule,
    wait: Callable[[], None],
) -> Iterator[Denoised[A]]:
    """From noise to clean latents, a step at a time.

    Args:
        step: takes one.
        latents: float32 initial noise, with what is given in its place; not changed.
        scheduler: the rule of one step.
        schedule: its sigmas and timesteps.
        wait: until a step that was begun is done.
    """
    arrays: tuple[A, ...] = (latents,)
    for index, timestep in enumerate(schedule.timesteps):
        coefficients = scheduler.coefficients(schedule, index, len(arrays) - 1)
        taken = step(arrays, timestep, coefficients)
        arrays = taken.arrays
        wait()
        yield Denoised(index, arrays[0], taken.foretold, taken.recorded)
