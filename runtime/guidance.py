"""The denoiser under classifier-free guidance, as one function of latents and timestep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np

from ..engine import Session
from ..engine.manifest import Manifest
from .arithmetic import A, Arithmetic, Prediction
from .conditioning import Conditioning


@dataclass
class GuidedDenoiser(Generic[A]):
    """Predicts the velocity at some latents, with and without the prompt.

    Attributes:
        session: the denoiser.
        arithmetic: where the arrays lie.
        prompt: embedding, float32 (1, tokens, dim); may be replaced between steps.
        negative: likewise; `None` runs without guidance, one prediction a step.
        scale: the guidance scale.
        batched: both predictions in one run, at twice the memory.
        conditioning: what is known of the clip.
    """

    session: Session
    arithmetic: Arithmetic[A]
    prompt: A
    negative: A | None
    scale: float
    batched: bool
    conditioning: Conditioning[A] = field(default_factory=Conditioning)

    def __call__(self, latents: A, timestep: np.float32) -> Prediction[A]:
        """Of latents (1, channels, frames, height, width)."""
        if self.negative is None:
            return Prediction(self._predict(latents, timestep, self.prompt))
        if self.batched:
            stack = self.arithmetic.stack
            embeddings = stack(self.prompt, self.negative)
            both = self._predict(stack(latents, latents), timestep, embeddings)
            return Prediction(*self.arithmetic.halves(both), self.scale)
        conditional = self._predict(latents, timestep, self.prompt)
        unconditional = self._predict(latents, timestep, self.negative)
        return Prediction(conditional, unconditional, self.scale)

    def _predict(self, latents: Any, timestep: np.float32, embeddings: Any) -> Any:
        outputs = self.session.run(
            {
                "hidden_states": latents,
                "timestep": self.conditioning.timesteps(timestep, latents),
                "encoder_hidden_states": embeddings,
            }
        )
        return outputs["sample"]


def fits_batched(manifest: Manifest, latent_shape: tuple[int, ...], memory: int) -> bool:
    """Whether two predictions at once stay within a quarter of the memory, in bytes.

    The whole memory counts, not what is free just now: the same machine always decides the same,
    so that its results stay the same bit for bit.
    """
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
