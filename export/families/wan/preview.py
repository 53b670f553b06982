"""Latents → RGB at a glance: an affine map, fitted to what the VAE's encoder makes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

from ....engine.manifest import PreviewSpec
from ...checkpoint import Checkpoint

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from torch import Tensor

IMAGES = 24
PIXELS = 8
"""Latent pixels on a side of an image."""
PATCHES = 6
FRAMES = 5
ENCODER = ("encoder.", "quant_conv.")


def fit(checkpoint: Checkpoint) -> PreviewSpec:
    """Least squares from latents, normalised as the denoiser sees them, to mean colours.

    The images are of gradients with rectangles of one colour; each is shown as a still clip, so
    that latents of first and of later frames take part.
    """
    vae = encoder_alone(checkpoint)
    scale = vae.config.scale_factor_spatial
    generator = torch.Generator().manual_seed(0)
    sources, targets = [], []
    for _ in range(IMAGES):
        image = random_image(PIXELS * scale, generator)
        latents = encode(vae, image)
        colours = F.avg_pool2d(image, scale).flatten(1).T
        sources.append(latents)
        targets.append(colours.repeat(len(latents) // len(colours), 1))
    return solve(torch.cat(sources), torch.cat(targets))


def encoder_alone(checkpoint: Checkpoint) -> AutoencoderKLWan:
    """The VAE in fp32, without the weights of its decoder, which may be twice as many."""
    from diffusers import AutoencoderKLWan

    stored = checkpoint.component("vae")
    with torch.device("meta"):
        vae = AutoencoderKLWan.from_config(stored.config)
    names = [name for name in vae.state_dict() if name.startswith(ENCODER)]
    weights = {name: stored.load(name).float() for name in names}
    vae.load_state_dict(weights, strict=False, assign=True)
    return vae.eval()


def random_image(size: int, generator: torch.Generator) -> Tensor:
    """(3, size, size) in [-1, 1]: a gradient between four colours, and rectangles on it."""
    corners = torch.rand(1, 3, 2, 2, generator=generator) * 2 - 1
    image = F.interpolate(corners, size=(size, size), mode="bilinear", align_corners=True)[0]
    for _ in range(PATCHES):
        top, left, height, width = torch.randint(0, size, (4,), generator=generator).tolist()
        colour = torch.rand(3, 1, 1, generator=generator) * 2 - 1
        image[:, top : top + height // 2, left : left + width // 2] = colour
    return image


@torch.no_grad()
def encode(vae: AutoencoderKLWan, image: Tensor) -> Tensor:
    """Normalised latents of an image shown as a still clip, (frames · pixels, channels)."""
    clip = image[None, :, None].expand(1, -1, FRAMES, -1, -1)
    latents: Tensor = vae.encode(clip).latent_dist.mode()[0].flatten(1).T
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return (latents - mean) / std


def solve(latents: Tensor, colours: Tensor) -> PreviewSpec:
    """The affine map (samples, channels) → (samples, 3) of least squares, to four decimals.

    More would only tell on how many threads it was computed.
    """
    ones = torch.ones(len(latents), 1)
    solution = torch.linalg.lstsq(torch.cat([latents, ones], dim=1), colours).solution
    *matrix, bias = [[round(value, 4) for value in row] for row in solution.tolist()]
    return PreviewSpec(matrix=tuple(zip(*matrix, strict=True)), bias=tuple(bias))
