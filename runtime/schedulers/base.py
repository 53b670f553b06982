"""What every scheduler is: a schedule of sigmas, and a step that is a weighted sum of arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError

Array = NDArray[np.float32]
Coefficients = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise levels of a run. Latents at sigma are `(1 - sigma) * clean + sigma * noise`.

    Attributes:
        sigmas: float32 (steps + 1,), falling to 0, usually from about 1.
        timesteps: float32 (steps,), what the denoiser is told at each but the last.

    Raises:
        UserError: the sigmas do not fall to 0, each below the one before.
    """

    sigmas: Array
    timesteps: Array

    def __post_init__(self) -> None:
        if not np.all(np.diff(self.sigmas) < 0) or self.sigmas[-1] != 0:
            raise UserError(
                "the sigmas of this run do not fall to 0 at every step; "
                "use fewer steps, or a shift nearer to 1"
            )

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return len(self.timesteps)

    def within(self, interval: tuple[float, float]) -> Array:
        """The timesteps from one share of the steps up to another, both from 0 to 1.

        Source: diffusers, `guiders/classifier_free_guidance.py`, with its `start` and `stop`.
        """
        first, last = (int(share * self.steps) for share in interval)
        return self.timesteps[first:last]


@dataclass(frozen=True)
class Scheduler(ABC):
    """A rule by which latents move along a schedule; it keeps no state between steps.

    Attributes:
        shift: s of the map `s * sigma / (1 + (s - 1) * sigma)` that uniform sigmas go through.
        train_timesteps: what a sigma of 1 is to the denoiser.
    """

    shift: float
    train_timesteps: int = 1000

    @abstractmethod
    def schedule(self, steps: int) -> Schedule:
        """The noise levels of a run of so many steps, at least one."""

    @abstractmethod
    def coefficients(self, schedule: Schedule, index: int, known: int) -> Coefficients:
        """The weights of one step.

        Args:
            schedule: the run's noise levels.
            index: of the step, from 0.
            known: length of the history that goes in.

        Returns:
            (outputs, 2 + known). Columns: latents, velocity, history. Rows: the next latents, then
            the next history. `kernels.guided_step` takes them, together with guidance.
        """


def shifted(sigmas: NDArray[np.floating], shift: float) -> NDArray[np.floating]:
    """Sigmas moved towards high noise; a shift of 1 changes nothing. Source: Esser et al., 2024."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def with_zero(sigmas: NDArray[np.floating]) -> Array:
    """The sigmas as float32, and a last one of 0."""
    return np.append(sigmas, 0.0).astype(np.float32)
