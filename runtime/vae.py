"""Latents → frames, a latent frame at a time, and an image → latents.

Memory does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Session, Tensor
from ..kernels.frames import from_rgb8

CACHE_OUT = "new_"


def decode(
    open_graph: Callable[[str], Session],
    latent_frames: Iterable[Tensor],
    show: Callable[[Any], NDArray[np.uint8]],
) -> Iterator[NDArray[np.uint8]]:
    """Decode a clip: one frame from the first latent frame, several from each later one.

    The VAE is causal. What its convolutions need of earlier frames is a cache that one run gives
    and the next takes.

    Args:
        open_graph: gives the session of `vae_decoder_first` and of `vae_decoder_next`.
        latent_frames: each (1, channels, 1, height, width), in the VAE's own space.
        show: makes pictures of what a run gives, (1, 3, frames, height, width) in [-1, 1].

    Yields:
        uint8 (frames, height, width, 3).
    """
    cache: dict[str, Tensor] = {}
    for index, latents in enumerate(latent_frames):
        session = open_graph("vae_decoder_next" if index else "vae_decoder_first")
        outputs = session.run({"latents": latents, **cache})
        yield show(outputs.pop("frames"))
        cache = {name.removeprefix(CACHE_OUT): tensor for name, tensor in outputs.items()}


def encode(
    open_graph: Callable[[str], Session], image: NDArray[np.uint8], latent_frames: int = 1
) -> NDArray[np.float32]:
    """Encode a clip that is an image first, and gray from then on: the mean of the posterior.

    Args:
        open_graph: gives the session of `vae_encoder_first` and of `vae_encoder_next`.
        image: uint8 (height, width, 3), RGB.
        latent_frames: of the clip; the first is the image's.

    Returns:
        float32 (1, channels, latent frames, latent height, latent width), in the VAE's own space.
    """
    cache: dict[str, Tensor] = {}
    frames, latents = from_rgb8(image[None]), []
    for index in range(latent_frames):
        session = open_graph("vae_encoder_next" if index else "vae_encoder_first")
        if index == 1:
            count = int(session.inputs["frames"].shape[2])
            frames = np.zeros((1, 3, count, *image.shape[:2]), np.float32)
        outputs = session.run({"frames": frames, **cache})
        latents.append(np.asarray(outputs.pop("latents")))
        cache = {name.removeprefix(CACHE_OUT): tensor for name, tensor in outputs.items()}
    return np.concatenate(latents, axis=2)
