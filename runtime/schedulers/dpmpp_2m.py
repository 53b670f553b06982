"""DPM-Solver++(2M): second order, from the predictions of this step and the one before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import checks
from .base import Coefficients, Schedule, Scheduler, shifted, with_zero
from .multistep import clean, extrapolate


@dataclass(frozen=True)
class DPMpp2M(Scheduler):
    """Equal to diffusers' `DPMSolverMultistepScheduler` for flows.

    That is `algorithm_type="dpmsolver++"`, `solver_order=2`, `solver_type="midpoint"`,
    `prediction_type="flow_prediction"`, `use_flow_sigmas=True`, `flow_shift=…`. Its history is the
    last prediction of the clean latents. Source: Lu et al., 2022, arXiv 2211.01095, algorithm 2.
    """

    def schedule(self, steps: int) -> Schedule:
        """Uniform from 1 - 1 / train_timesteps, shifted; timesteps without their fractions."""
        checks.integer("steps", steps, 1, self.train_timesteps)
        uniform = 1.0 - np.linspace(1, 1 / self.train_timesteps, steps + 1)
        sigmas = shifted(uniform, self.shift)[:0:-1]
        timesteps = np.trunc(sigmas * self.train_timesteps).astype(np.float32)
        return Schedule(with_zero(sigmas), timesteps)

    def coefficients(self, schedule: Schedule, index: int, known: int) -> Coefficients:
        """Of the next latents and of the clean latents predicted now."""
        latents, velocity, *earlier = np.eye(2 + known)
        denoised = clean(schedule, index, latents, velocity)
        last = earlier[0] if earlier else None
        return np.stack([extrapolate(schedule, index, latents, denoised, last), denoised])
