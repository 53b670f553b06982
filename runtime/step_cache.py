"""Denoising steps whose velocity is foretold from earlier ones instead of computed.

When: while the change to be expected of the velocity since the last computed step stays below a
threshold. It is expected to change as much for the latents' way as between the last two computed
steps. Source: Zhou et al., 2025 (EasyCache, arXiv 2507.02860).

What: the line over the timesteps through the last two computed velocities. Source: Liu et al., 2025
(TaylorSeer, arXiv 2503.06923), first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from .arithmetic import A, Arithmetic, Prediction
from .guidance import GuidedDenoiser

FIRST = 3
"""So many steps are computed at the beginning, where the clip takes shape; so is the last one."""
GUIDED = np.array([[0.0, 1.0]])
"""Coefficients of `Arithmetic.step` that leave the guided velocity."""


@dataclass(frozen=True)
class _Computed(Generic[A]):
    timestep: np.float32
    latents: A
    velocity: A


class StepCache(Generic[A]):
    """A guided denoiser that is spared some of its steps."""

    def __init__(
        self,
        denoiser: GuidedDenoiser[A],
        arithmetic: Arithmetic[A],
        threshold: float,
        steps: int,
    ) -> None:
        """Begin a run.

        Args:
            denoiser: what is spared; its prompt may be replaced between steps.
            arithmetic: where the arrays lie.
            threshold: how far the velocity may be expected to move, relative to its own size,
                before it is computed again; 0 computes every step.
            steps: of the run.
        """
        self._denoiser = denoiser
        self._arithmetic = arithmetic
        self._threshold = threshold
        self._steps = steps
        self._done = 0
        self._source: tuple[Any, Any] = (None, None)
        self._computed: list[_Computed[A]] = []
        self._before: A | None = None
        self._moved: list[np.float32] = []
        self._expected = np.float32(0)

    def __call__(self, latents: A, timestep: np.float32) -> Prediction[A]:
        """The velocity at latents (1, channels, frames, height, width)."""
        self._follow(timestep)
        spared = FIRST <= self._done < self._steps - 1 and self._is_near(latents)
        self._done += 1
        self._before = latents
        return self._foretold(latents, timestep) if spared else self._compute(latents, timestep)

    def _follow(self, timestep: np.float32) -> None:
        """Forget what another prompt, expert or guidance scale has said."""
        expert, prompt = self._denoiser.expert(timestep), self._denoiser.prompt
        if expert != self._source[0] or prompt is not self._source[1]:
            self._source = expert, prompt
            self._computed = []

    def _is_near(self, latents: A) -> bool:
        """Whether the velocity is not expected to have changed much; NaN says no."""
        if len(self._computed) < 2 or self._before is None:
            return False
        pairs = [(latents, self._before)]
        if not self._moved:
            new, old = self._computed
            pairs += [(new.velocity, old.velocity), (new.latents, old.latents)]
        way, *moved = self._arithmetic.relative_l1(pairs)
        self._moved = moved or self._moved
        velocity, computed_way = self._moved
        with np.errstate(divide="ignore", invalid="ignore"):
            self._expected += velocity / computed_way * way
        return bool(self._expected < self._threshold)

    def _compute(self, latents: A, timestep: np.float32) -> Prediction[A]:
        prediction = self._denoiser(latents, timestep)
        (velocity,) = self._arithmetic.step(GUIDED, latents, prediction, ())
        self._computed = [_Computed(timestep, latents, velocity), *self._computed[:1]]
        self._expected, self._moved = np.float32(0), []
        return Prediction(velocity)

    def _foretold(self, latents: A, timestep: np.float32) -> Prediction[A]:
        last, one_before = self._computed
        ahead = (timestep - last.timestep) / (last.timestep - one_before.timestep)
        line = np.array([[0.0, 1 + ahead, -ahead]])
        told, history = Prediction(last.velocity), (one_before.velocity,)
        (velocity,) = self._arithmetic.step(line, latents, told, history)
        return Prediction(velocity, foretold=True)
