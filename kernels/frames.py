"""Latents and decoded frames, as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_rgb8(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Frames in [-1, 1], (1, 3, frames, height, width), as uint8 (frames, height, width, 3).

    Rounds half up after scaling to 0…255; NaN becomes 0. Source: diffusers' `VideoProcessor`.
    """
    inside = np.nan_to_num(np.clip(frames[0], -1, 1).astype(np.float32), nan=-1)
    scaled = np.minimum(inside * 127.5 + 128, 255)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 3, 0))


def from_rgb8(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The inverse: uint8 (frames, height, width, 3) to float32 (1, 3, frames, height, width)."""
    planes = frames.transpose(3, 0, 1, 2)[None]
    return np.ascontiguousarray(planes.astype(np.float32) / 127.5 - 1)


def latent_preview(
    latents: NDArray[np.float32], matrix: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A thumbnail of each latent frame: one RGB pixel a latent pixel, channels added in order.

    Args:
        latents: (1, channels, frames, height, width), as the denoiser sees them.
        matrix: (3, channels), and
        bias: (3,): the affine map to RGB in [-1, 1], fitted to the VAE.

    Returns:
        uint8 (frames, height, width, 3).
    """
    rgb = np.zeros((3, *latents.shape[2:]), np.float32)
    for weights, channel in zip(matrix.T, latents[0], strict=True):
        rgb += weights[:, None, None, None] * channel
    return to_rgb8((rgb + bias[:, None, None, None])[None])
