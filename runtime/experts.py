"""Which denoiser predicts at a timestep: a bundle has one, or one for noise and one for detail.

Source: diffusers, `pipelines/wan/pipeline_wan.py`, with `transformer_2` and `boundary_ratio`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..engine import Session, Sessions
from ..engine.manifest import DENOISERS
from ..errors import UserError


@dataclass(frozen=True)
class Expert:
    """A denoiser, opened, and its guidance scale."""

    session: Session
    scale: float

    @property
    def guided(self) -> bool:
        """Whether it needs the unconditional prediction too."""
        return self.scale > 1


class Experts:
    """The denoisers of a bundle for one run; only the one that predicts is open.

    Two of them hardly ever fit into a device's memory together. A run changes once at most.

    Attributes:
        scales: the guidance scale of each, in the order of `DENOISERS`.
        guided: the timesteps that it applies to; at others it is 1.
    """

    def __init__(
        self, sessions: Sessions, scales: tuple[float, ...], guided: Collection[np.float32]
    ) -> None:
        manifest = sessions.bundle.manifest
        boundary = (manifest.denoiser.boundary or 0) * manifest.scheduler.train_timesteps
        self.scales = scales
        self.guided = frozenset(map(float, guided))
        self._sessions = sessions
        self._options = sessions.options
        self._boundary = np.float32(boundary)

    def __call__(self, timestep: np.float32) -> Expert:
        """The denoiser of a timestep: from the boundary upwards it is the first.

        Raises:
            UserError: the LoRAs were changed since the run began.
        """
        if self._sessions.options is not self._options:
            raise UserError("the LoRAs were changed while this clip was made; begin it again")
        index = int(timestep < self._boundary)
        for other in DENOISERS:
            if other != DENOISERS[index]:
                self._sessions.release(other)
        scale = self.scales[index] if float(timestep) in self.guided else 1.0
        return Expert(self._sessions(DENOISERS[index]), scale)
