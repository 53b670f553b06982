"""The denoiser under classifier-free guidance, as one function of latents and timestep."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engine import Session
from ..engine.manifest import Manifest
from ..kernels.latents import guide
from .conditioning import Conditioning

Array = NDArray[np.float32]


@dataclass
class GuidedDenoiser:
    """Predicts the velocity at some latents.

    Attributes:
        session: the denoiser.
        prompt: embedding, float32 (1, tokens, dim); may be replaced between steps.
        negative: likewise; `None` runs without guidance, one prediction a step.
        scale: the guidance scale.
        batched: both predictions in one run, at twice the memory.
        conditioning: what is known of the clip.
    """

    session: Session
    prompt: Array
    negative: Array | None
    scale: float
    batched: bool
    conditioning: Conditioning = field(default_factory=Conditioning)

    def __call__(self, latents: Array, timestep: np.float32) -> Array:
        """The velocity, of the latents' shape (1, channels, frames, height, width)."""
        if self.negative is None:
            return self._predict(latents, timestep, self.prompt)
        if self.batched:
            both = np.concatenate([self.prompt, self.negative])
            conditional, unconditional = np.split(
                self._predict(np.repeat(latents, 2, axis=0), timestep, both), 2
            )
        else:
            conditional = self._predict(latents, timestep, self.prompt)
            unconditional = self._predict(latents, timestep, self.negative)
        return guide(conditional, unconditional, self.scale)

    def _predict(self, latents: Array, timestep: np.float32, embeddings: Array) -> Array:
        outputs = self.session.run(
            {
                "hidden_states": latents,
                "timestep": self.conditioning.timesteps(timestep, latents),
                "encoder_hidden_states": embeddings,
            }
        )
        return np.asarray(outputs["sample"])


def fits_batched(
    manifest: Manifest, latent_shape: tuple[int, ...], memory: int | None = None
) -> bool:
    """Whether two predictions at once stay within a quarter of the machine's memory, in bytes.

    The whole memory counts, not what is free just now: the same machine always decides the same,
    so that its results stay the same bit for bit.
    """
    return 2 * working_memory(manifest, latent_shape) <= (memory or machine_memory()) // 4


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def working_memory(manifest: Manifest, latent_shape: tuple[int, ...]) -> int:
    """Bytes that one prediction needs beside the weights, in float32, roughly and from above.

    Counts a block's widest moment: eight tensors of the hidden size, the feed-forward's inner one,
    and the attention scores, which ONNX Runtime's CPU kernel holds twice.
    """
    size = manifest.denoiser
    tokens = math.prod(latent_shape[2:]) // math.prod(manifest.latents.patch_size)
    scores = 2 * size.heads * tokens * max(tokens, manifest.text.max_tokens)
    return 4 * (tokens * (8 * size.hidden_size + size.ffn_dim) + scores)
