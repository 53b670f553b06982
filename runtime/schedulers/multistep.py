"""What the multistep schedulers share: steps in log-SNR time, by predictions of the clean latents.

The rows of an identity matrix stand for the arrays of a step: a formula over them reads as it does
in the papers, and what it yields are the coefficients. The papers' `alpha_t * (1 - exp(-h))` is
`1 - sigma_t / sigma_s` here, because alpha is 1 - sigma.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .base import Schedule

Row = NDArray[np.float64]


def log_snr(schedule: Schedule, index: int) -> float:
    """log(alpha / sigma); infinite at the ends of the scale, where a step takes the limit."""
    sigma = float(schedule.sigmas[index])
    if sigma >= 1.0:
        return -math.inf
    return math.log((1.0 - sigma) / sigma) if sigma > 0.0 else math.inf


def ratio(schedule: Schedule, index: int) -> float:
    """What is left of a sigma after the step from `index` to the next."""
    return float(schedule.sigmas[index + 1]) / float(schedule.sigmas[index])


def clean(schedule: Schedule, index: int, latents: Row, velocity: Row) -> Row:
    """The clean latents that a velocity predicts."""
    return latents - float(schedule.sigmas[index]) * velocity


def extrapolate(
    schedule: Schedule, index: int, latents: Row, denoised: Row, earlier: Row | None
) -> Row:
    """DPM-Solver++(2M), midpoint form, and UniPC's predictor of order 2, which is the same.

    Args:
        schedule: the run's noise levels.
        index: of the step.
        latents: at that index.
        denoised: the clean latents predicted there.
        earlier: those predicted one step before; without them the step is of first order, as the
            last one always is, since its log-SNR has no end.
    """
    left = ratio(schedule, index)
    target = denoised
    if earlier is not None and index + 1 < schedule.steps:
        start = log_snr(schedule, index)
        growth = (log_snr(schedule, index + 1) - start) / (start - log_snr(schedule, index - 1))
        target = denoised + 0.5 * growth * (denoised - earlier)
    return left * latents + (1 - left) * target
