"""A first frame that is given, as in Wan 2.2's TI2V.

Every token has its own time: 0 where the frame is given, the clip's elsewhere. So one denoiser
makes clips from text alone and from a picture, and needs no further channels for it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def levels(level: Tensor, frames: int, given: bool) -> Tensor:
    """Noise levels (n,) as they are, or by latent frame (n, frames), 0 for a first one given."""
    if not given:
        return level
    sigmas = level[:, None].repeat(1, frames)
    sigmas[:, 0] = 0
    return sigmas


def by_token(sigmas: Tensor, latents: Tensor) -> Tensor:
    """Levels (n,) as they are; those by frame by token, (n, tokens). Patches are 1x2x2."""
    if sigmas.ndim == 1:
        return sigmas
    return sigmas.repeat_interleave((latents.shape[3] // 2) * (latents.shape[4] // 2), 1)


def unknown(sigmas: Tensor) -> Tensor:
    """1 where there is noise, 0 where a frame is given; broadcasts to latents."""
    return (sigmas > 0).float().view(len(sigmas), 1, -1, 1, 1)


def with_given(latents: Tensor, clean: Tensor, given: bool) -> Tensor:
    """The latents, their first frame that of the clean ones where it is given."""
    if not given:
        return latents
    return torch.cat([clean[:, :, :1], latents[:, :, 1:]], 2)
