"""Flow matching, as Wan is trained: straight ways between latents and noise."""

from __future__ import annotations

import torch
from torch import Tensor

UNIFORM = 0.3


def sample_sigmas(n: int, random: torch.Generator, shift: float) -> Tensor:
    """Noise levels in (0, 1), (n,): mostly logit-normal, some uniform, then shifted to the noise.

    Source: Esser et al. 2024, "Scaling Rectified Flow Transformers", sections 3.1 and 5.3.2.
    """
    device = random.device
    normal = torch.randn(n, generator=random, device=device).sigmoid()
    uniform = torch.rand(n, generator=random, device=device)
    chosen = torch.rand(n, generator=random, device=device) < UNIFORM
    return shifted(torch.where(chosen, uniform, normal), shift)


def shifted(sigmas: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards the noisy end, as flow-match schedulers do."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def noised(latents: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    """Latents (n, channels, frames, height, width) with noise at levels (n,) or (n, frames)."""
    level = sigmas.view(len(latents), 1, -1, 1, 1)
    return (1 - level) * latents + level * noise


def weighted_error(found: Tensor, wanted: Tensor, importance: Tensor) -> Tensor:
    """The mean squared error, weighted by an importance that broadcasts."""
    weights = importance.expand_as(wanted)
    error = (found.float() - wanted) ** 2
    return (weights * error).sum() / weights.sum()
