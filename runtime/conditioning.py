"""What a denoiser is given beside noise and text: the first latent frame of a clip.

A frame that is given has no noise, so its timestep is 0 at every step, and its latents stay as they
are. Source: diffusers, `pipelines/wan/pipeline_wan_i2v.py`, with `expand_timesteps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from .arithmetic import A, Arithmetic


@dataclass(frozen=True)
class Conditioning(Generic[A]):
    """What is known of a clip, and how the denoiser is told.

    Attributes:
        by_frame: whether the denoiser takes a timestep for each latent frame, not one for all.
        first: the first latent frame, as the denoiser sees latents: float32 (1, channels, 1,
            height, width); `None` where nothing is given.
    """

    by_frame: bool = False
    first: A | None = None

    def hold(self, latents: A, arithmetic: Arithmetic[A]) -> A:
        """The latents (1, channels, frames, height, width) with what is given in its place."""
        return latents if self.first is None else arithmetic.hold(latents, self.first)

    def timesteps(self, timestep: np.float32, latents: Any) -> NDArray[np.float32]:
        """The denoiser's input for a batch of latents: float32 (batch,) or (batch, frames)."""
        batch, _, frames = latents.shape[:3]
        if not self.by_frame:
            return np.full(batch, timestep, np.float32)
        timesteps = np.full((batch, frames), timestep, np.float32)
        if self.first is not None:
            timesteps[:, 0] = 0
        return timesteps
