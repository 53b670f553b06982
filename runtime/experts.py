"""Which denoiser predicts at a timestep: a bundle has one, or one for noise and one for detail.

Source: diffusers, `pipelines/wan/pipeline_wan.py`, with `transformer_2` and `boundary_ratio`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..engine import Session, Sessions
from ..engine.manifest import DENOISERS, Manifest
from ..errors import UserError

SHARE = 3
"""Two experts may take one part in so many of a GPU's memory: the rest is for what they and the
other engines work in. An assumption."""


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
    """The denoisers of a bundle for one run; the one that predicts is open, the other seldom.

    Two of them hardly ever fit into a device's memory together. A run changes once at most. On a
    GPU where they do, both wait for the next clip if engines do.

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
        stream = sessions.stream
        self._both = (
            sessions.keep_open and stream is not None and both_fit(manifest, stream.device.memory)
        )

    def __call__(self, timestep: np.float32) -> Expert:
        """The denoiser of a timestep: from the boundary upwards it is the first.

        Raises:
            UserError: the LoRAs were changed since the run began.
        """
        if self._sessions.options is not self._options:
            raise UserError("the LoRAs were changed while this clip was made; begin it again")
        index = int(timestep < self._boundary)
        if not self._both:
            self._sessions.release(DENOISERS[1 - index])
        scale = self.scales[index] if float(timestep) in self.guided else 1.0
        return Expert(self._sessions(DENOISERS[index]), scale)


def both_fit(manifest: Manifest, memory: int) -> bool:
    """Whether a GPU of so many bytes of memory keeps both denoisers, by the size of their files.

    The whole memory counts, not what is free just now, as in `guidance.fits_batched`.
    """
    graphs = [manifest.graphs[name] for name in DENOISERS if name in manifest.graphs]
    files = {name for graph in graphs for name in (graph.file, *graph.data)}
    return SHARE * sum(manifest.files[name].size for name in files) <= memory
