"""Arithmetic on latents between the engines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def guide(conditional: Array, unconditional: Array, scale: float) -> Array:
    """Classifier-free guidance: `unconditional + scale * (conditional - unconditional)`.

    Source: Ho and Salimans, 2022; the order of operations is diffusers' `WanPipeline`'s.
    """
    return unconditional + np.float32(scale) * (conditional - unconditional)


def denormalize(latents: Array, mean: Array, std: Array) -> Array:
    """From the denoiser's latent space to the VAE's: `latents * std + mean`, channel by channel.

    `latents` is (batch, channels, frames, height, width), `mean` and `std` (channels,).
    """
    column = (-1, 1, 1, 1)
    return latents * std.reshape(column) + mean.reshape(column)


def latent_frame(latents: Array, index: int, mean: Array, std: Array) -> Array:
    """One frame, as the VAE's decoder takes it: (1, channels, 1, height, width), denormalized."""
    return denormalize(latents[:, :, index : index + 1], mean, std)


def normalize(latents: Array, mean: Array, std: Array) -> Array:
    """The inverse of `denormalize`: from the VAE's latent space to the denoiser's."""
    column = (-1, 1, 1, 1)
    return (latents - mean.reshape(column)) / std.reshape(column)


def hold_first(latents: Array, first: Array) -> Array:
    """Latents with their first frame replaced by `first`, (1, channels, 1, height, width)."""
    return np.concatenate([first, latents[:, :, 1:]], axis=2)
