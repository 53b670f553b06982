"""Euler's method: straight along the velocity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import checks
from .base import Coefficients, Schedule, Scheduler, shifted, with_zero


@dataclass(frozen=True)
class Euler(Scheduler):
    """First order; equal to diffusers' `FlowMatchEulerDiscreteScheduler`.

    Attributes:
        terminal: the last sigma before 0, to which the others are stretched (`shift_terminal`
            there); without one a run of few steps ends with a step that does next to nothing.
    """

    terminal: float | None = None

    def schedule(self, steps: int) -> Schedule:
        """Uniform from 1 to the lowest shifted sigma of training, then shifted.

        So the shift counts twice at the low end, as it does in the source.
        """
        checks.integer("steps", steps, 1, self.train_timesteps)
        highest, lowest = (self._trained_sigma(t) for t in (self.train_timesteps, 1))
        timesteps = np.linspace(
            highest * self.train_timesteps, lowest * self.train_timesteps, steps
        )
        sigmas = shifted(timesteps / self.train_timesteps, self.shift)
        if self.terminal is not None and steps > 1:
            sigmas = 1 - (1 - sigmas) * (1 - self.terminal) / (1 - sigmas[-1])
        falling = with_zero(sigmas)
        return Schedule(falling, falling[:-1] * np.float32(self.train_timesteps))

    def coefficients(self, schedule: Schedule, index: int, known: int) -> Coefficients:
        """`latents + (next sigma - sigma) * velocity`; there is no history."""
        sigma, following = schedule.sigmas[index : index + 2].astype(np.float64)
        latents, velocity, *_ = np.eye(2 + known)
        return np.stack([latents + (following - sigma) * velocity])

    def _trained_sigma(self, timestep: int) -> float:
        sigma = np.float32(timestep) / np.float32(self.train_timesteps)
        less = np.float32(self.shift - 1) * sigma
        return float(np.float32(self.shift) * sigma / (np.float32(1) + less))
