"""Euler's method: straight along the velocity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from .. import checks
from .base import Coefficients, Schedule, Scheduler, shifted, with_zero


@dataclass(frozen=True)
class Euler(Scheduler):
    """First order; equal to diffusers' `FlowMatchEulerDiscreteScheduler`.

    Attributes:
        terminal: the last sigma before 0, to which the others are stretched (`shift_terminal`
            there); without one a run of few steps ends with a step that does next to nothing.
        sigmas: before the shift, falling, without the last 0, in place of uniform ones (`sigmas` of
            `set_timesteps` there): what a denoiser of few steps was distilled for.
    """

    terminal: float | None = None
    sigmas: tuple[float, ...] | None = None

    def schedule(self, steps: int) -> Schedule:
        """Uniform from 1 to the lowest shifted sigma of training, or as they are given; shifted.

        So the shift counts twice at the low end of uniform ones, as it does in the source.

        Raises:
            UserError: there are not as many sigmas as steps.
        """
        checks.integer("steps", steps, 1, self.train_timesteps)
        if self.sigmas is not None and len(self.sigmas) != steps:
            raise UserError(f"there are {len(self.sigmas)} sigmas for {steps} steps")
        falling = with_zero(self._stretched(shifted(self._plain(steps), self.shift)))
        return Schedule(falling, falling[:-1] * np.float32(self.train_timesteps))

    def _plain(self, steps: int) -> NDArray[np.floating]:
        if self.sigmas is not None:
            return np.array(self.sigmas, np.float32)
        highest, lowest = (self._trained_sigma(t) for t in (self.train_timesteps, 1))
        timesteps = np.linspace(
            highest * self.train_timesteps, lowest * self.train_timesteps, steps
        )
        return np.asarray(timesteps / self.train_timesteps)

    def _stretched(self, sigmas: NDArray[np.floating]) -> NDArray[np.floating]:
        if self.terminal is None or len(sigmas) == 1:
            return sigmas
        return np.asarray(1 - (1 - sigmas) * (1 - self.terminal) / (1 - sigmas[-1]))

    def coefficients(self, schedule: Schedule, index: int, known: int) -> Coefficients:
        """`latents + (next sigma - sigma) * velocity`; there is no history."""
        sigma, following = schedule.sigmas[index : index + 2].astype(np.float64)
        latents, velocity, *_ = np.eye(2 + known)
        return np.stack([latents + (following - sigma) * velocity])

    def _trained_sigma(self, timestep: int) -> float:
        sigma = np.float32(timestep) / np.float32(self.train_timesteps)
        less = np.float32(self.shift - 1) * sigma
        return float(np.float32(self.shift) * sigma / (np.float32(1) + less))
