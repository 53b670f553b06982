"""The denoiser under classifier-free guidance, as one function of latents and timestep."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engine import Session
from ..engine.manifest import Manifest
from ..kernels.latents import guide
from .conditioning import Conditioning
from .experts import Expert

Array = NDArray[np.float32]


@dataclass
class GuidedDenoiser:
    """Predicts the velocity at some latents.

    Attributes:
        expert: the denoiser of a timestep, and its guidance scale.
        prompt: embedding, float32 (1, tokens, dim); may be replaced between steps.
        negative: likewise; `None` runs without guidance, one prediction a step.
        batched: both predictions in one run, at twice the memory.
        conditioning: what is known of the clip.
    """

    expert: Callable[[np.float32], Expert]
    prompt: Array
    negative: Array | None
    batched: bool
    conditioning: Conditioning = field(default_factory=Conditioning)

    def __call__(self, latents: Array, timestep: np.float32) -> Array:
        """The velocity, of the latents' shape (1, channels, frames, height, width)."""
        expert = self.expert(timestep)
        if self.negative is None or not expert.guided:
            return self._predict(expert.session, latents, timestep, self.prompt)
        if self.batched:
            both = np.concatenate([self.prompt, self.negative])
            conditional, unconditional = np.split(
                self._predict(expert.session, np.repeat(latents, 2, axis=0), timestep, both), 2
            )
        else:
            conditional = self._predict(expert.session, latents, timestep, self.prompt)
            unconditional = self._predict(expert.session, latents, timestep, self.negative)
        return guide(conditional, unconditional, expert.scale)

    def _predict(
        self, session: Session, latents: Array, timestep: np.float32, embeddings: Array
    ) -> Array:
        outputs = session.run(
            {
                **self.conditioning.feeds(latents, timestep),
                "encoder_hidden_states": embeddings,
            }
        )
        return np.asarray(outputs["sample"])


def fits_batched(manifest: Manifest, latent_shape: tuple[int, ...]) -> bool:
    """Whether two predictions at once stay within a quarter of the machine's memory.

    The whole memory counts, not what is free just now: the same machine always decides the same,
    so that its results stay the same bit for bit.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2 * working_memory(manifest, latent_shape) <= memory // 4


def working_memory(manifest: Manifest, latent_shape: tuple[int, ...]) -> int:
    """Bytes that one prediction needs beside the weights, in float32, roughly and from above.

    Counts a block's widest moment: eight tensors of the hidden size, the feed-forward's inner one,
    and the attention scores, which ONNX Runtime's CPU kernel holds twice.
    """
    size = manifest.denoiser
    tokens = math.prod(latent_shape[2:]) // math.prod(manifest.latents.patch_size)
    scores = 2 * size.heads * tokens * max(tokens, manifest.text.max_tokens)
    return 4 * (tokens * (8 * size.hidden_size + size.ffn_dim) + scores)
