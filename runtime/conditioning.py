"""What a denoiser is given beside noise and text: an image that the clip begins with.

Some are given the first latent frame: it has no noise, so its timestep is 0 at every step, and its
latents stay as they are. Others are given channels beside the noise, and perhaps an embedding.
Source: diffusers, `pipelines/wan/pipeline_wan_i2v.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from ..engine import Sessions
from ..engine.manifest import IMAGE, Manifest
from ..kernels.frames import from_rgb8
from ..kernels.latents import normalize
from . import vae
from .arithmetic import A, Arithmetic
from .image import Image, cover

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conditioning(Generic[A]):
    """What is known of a clip, and how the denoiser is told.

    Attributes:
        by_frame: whether the denoiser takes a timestep for each latent frame, not one for all.
        first: the first latent frame, as the denoiser sees latents: float32 (1, channels, 1,
            height, width); `None` where nothing is given.
        beside: further channels of the denoiser's input: float32 (1, more channels, frames, height,
            width); `None` where it takes none.
        embedding: of the image, float32 (1, tokens, dim); likewise.
    """

    by_frame: bool = False
    first: A | None = None
    beside: A | None = None
    embedding: A | None = None

    def hold(self, latents: A, arithmetic: Arithmetic[A]) -> A:
        """The latents (1, channels, frames, height, width) with what is given in its place."""
        return latents if self.first is None else arithmetic.hold(latents, self.first)

    def feeds(self, latents: A, timesteps: A, arithmetic: Arithmetic[A]) -> dict[str, Any]:
        """The denoiser's inputs for latents of one clip, but for the text."""
        hidden = latents if self.beside is None else arithmetic.join(latents, self.beside)
        feeds = {"hidden_states": hidden, "timestep": timesteps}
        return feeds if self.embedding is None else {**feeds, IMAGE: self.embedding}

    def timesteps(self, timestep: np.float32, latents: Any) -> Array:
        """The denoiser's input for a batch of latents: float32 (batch,) or (batch, frames)."""
        batch, _, frames = latents.shape[:3]
        if not self.by_frame:
            return np.full(batch, timestep, np.float32)
        timesteps = np.full((batch, frames), timestep, np.float32)
        if self.first is not None:
            timesteps[:, 0] = 0
        return timesteps


def graphs_for_image(manifest: Manifest, frames: int) -> tuple[str, ...]:
    """The graphs that an image needs, for a clip of so many frames."""
    beside = manifest.denoiser.image == "channels"
    embedded = any(spec.name == IMAGE for spec in manifest.graphs["denoiser"].inputs)
    return (
        "vae_encoder_first",
        *(("vae_encoder_next",) if beside and frames > 1 else ()),
        *(("image_encoder",) if embedded else ()),
    )


def condition(
    sessions: Sessions, image: Image | None, latent_frames: int, arithmetic: Arithmetic[A]
) -> Conditioning[A]:
    """What a bundle's denoiser is told of a clip that begins with an image, or with none."""
    manifest = sessions.bundle.manifest
    by_frame = manifest.denoiser.image == "first_frame"
    if image is None:
        return Conditioning(by_frame)
    mean, std = (np.asarray(s, np.float32) for s in (manifest.latents.mean, manifest.latents.std))
    latents = vae.encode(sessions, image.pixels, 1 if by_frame else latent_frames)
    latents = normalize(latents, mean, std)
    if by_frame:
        return Conditioning(by_frame, arithmetic.array(latents))
    embedded = "image_encoder" in graphs_for_image(manifest, latent_frames)
    return Conditioning(
        beside=arithmetic.array(beside(latents, manifest.latents.temporal_compression)),
        embedding=arithmetic.array(embed(sessions, image)) if embedded else None,
    )


def beside(latents: Array, compression: int) -> Array:
    """A mask of the frames that are given, `compression` of them a latent frame, and the latents.

    Args:
        latents: float32 (1, channels, frames, height, width) of a clip that is the image and then
            nothing, as the denoiser sees latents.
        compression: frames of a latent frame; all of the first count as the image.

    Returns:
        float32 (1, compression + channels, frames, height, width).
    """
    mask = np.zeros((1, compression, *latents.shape[2:]), np.float32)
    mask[:, :, 0] = 1
    return np.concatenate([mask, latents], axis=1)


def embed(sessions: Sessions, image: Image) -> Array:
    """Run the image encoder on the image's centre: float32 (1, tokens, dim)."""
    session = sessions("image_encoder")
    size = int(session.inputs["image"].shape[-1])
    seen = from_rgb8(cover(image.pixels, size, size)[None])[:, :, 0]
    return np.asarray(session.run({"image": seen})["image_embeds"])
