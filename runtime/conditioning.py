"""What a denoiser is given beside noise and text: the first latent frame of a clip.

A frame that is given has no noise, so its timestep is 0 at every step, and its latents stay as they
are. Source: diffusers, `pipelines/wan/pipeline_wan_i2v.py`, with `expand_timesteps`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conditioning:
    """What is known of a clip, and how the denoiser is told.

    Attributes:
        by_frame: whether the denoiser takes a timestep for each latent frame, not one for all.
        first: the first latent frame, as the denoiser sees latents: float32 (1, channels, 1,
            height, width); `None` where nothing is given.
    """

    by_frame: bool = False
    first: Array | None = None

    def hold(self, latents: Array) -> Array:
        """The latents (1, channels, frames, height, width) with what is given in its place."""
        if self.first is None:
            return latents
        return np.concatenate([self.first, latents[:, :, 1:]], axis=2)

    def timesteps(self, timestep: np.float32, latents: Array) -> Array:
        """The denoiser's input for a batch of latents: float32 (batch,) or (batch, frames)."""
        batch, _, frames = latents.shape[:3]
        if not self.by_frame:
            return np.full(batch, timestep, np.float32)
        timesteps = np.full((batch, frames), timestep, np.float32)
        if self.first is not None:
            timesteps[:, 0] = 0
        return timesteps
