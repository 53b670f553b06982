"""UniPC of order 2: a velocity corrects the step that led to it, then predicts the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import checks
from .base import Coefficients, Schedule, Scheduler, shifted, with_zero
from .multistep import Row, clean, extrapolate, log_snr, ratio

# The first sigma would be 1, whose log-SNR is infinite; the source moves it by as much.
MARGIN = 1e-6


@dataclass(frozen=True)
class UniPC(Scheduler):
    """Equal to diffusers' `UniPCMultistepScheduler` as Wan 2.1 publishes it.

    That is `solver_order=2`, `solver_type="bh2"`, `prediction_type="flow_prediction"`,
    `use_flow_sigmas=True`, `flow_shift=…`. Its history is the last corrected latents, and the last
    one or two predictions of the clean latents, the newest first. Source: Zhao et al., 2023,
    arXiv 2302.04867.
    """

    def schedule(self, steps: int) -> Schedule:
        """Uniform from 1, shifted; timesteps without their fractions."""
        checks.integer("steps", steps, 1, self.train_timesteps)
        uniform = np.linspace(1, 1 / self.train_timesteps, steps + 1)[:-1]
        sigmas = shifted(uniform, self.shift)
        sigmas[0] -= MARGIN
        timesteps = np.trunc(sigmas * self.train_timesteps).astype(np.float32)
        return Schedule(with_zero(sigmas), timesteps)

    def coefficients(self, schedule: Schedule, index: int, known: int) -> Coefficients:
        """Of the next latents, the corrected ones, and the last predictions of the clean ones."""
        latents, velocity, *history = np.eye(2 + known)
        denoised = clean(schedule, index, latents, velocity)
        earlier = history[1:]
        if history:
            latents = _corrected(schedule, index, history[0], denoised, earlier)
        last = earlier[0] if earlier else None
        moved = extrapolate(schedule, index, latents, denoised, last)
        return np.stack([moved, latents, denoised, *earlier[:1]])


def _corrected(
    schedule: Schedule, index: int, latents: Row, denoised: Row, earlier: list[Row]
) -> Row:
    """The step that led to `index`, taken again now that the prediction at its end is known.

    Args:
        schedule: the run's noise levels.
        index: where that step ended.
        latents: where it began.
        denoised: the clean latents predicted at its end.
        earlier: those predicted at its beginning, and one step before that.
    """
    left = ratio(schedule, index - 1)
    base, *older = earlier
    target = base + 0.5 * (denoised - base)
    if older:
        start = log_snr(schedule, index - 1)
        length = log_snr(schedule, index) - start
        reach = (log_snr(schedule, index - 2) - start) / length
        slope, end = _weights(length, reach)
        target = base + slope / reach * (older[0] - base) + end * (denoised - base)
    return left * latents + (1 - left) * target


def _weights(length: float, reach: float) -> tuple[float, float]:
    """The paper's rho for order 2: of the earlier difference, and of the one at the step's end."""
    b_h = math.expm1(-length)
    first = (b_h / -length - 1) / b_h
    second = 2 * ((b_h / -length - 1) / -length - 0.5) / b_h
    slope = (first - second) / (1 - reach)
    return slope, first - slope
