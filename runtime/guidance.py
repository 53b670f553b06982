"""The denoiser under classifier-free guidance, as one function of latents and timestep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np

from ..engine import Session
from ..engine.manifest import PROMPT, Manifest
from ..kernels.guidance_weights import Variant
from .arithmetic import A, Arithmetic, Prediction
from .conditioning import Conditioning
from .experts import Expert

TIMESTEP = "timestep"
"""The denoiser's input for timesteps."""


@dataclass
class GuidedDenoiser(Generic[A]):
    """Predicts the velocity at some latents, with and without the prompt.

    Attributes:
        expert: the denoiser of a timestep, and its guidance scale.
        arithmetic: where the arrays lie.
        prompt: embedding, float32 (1, tokens, dim); may be replaced between steps.
        negative: likewise; `None` runs without guidance, one prediction a step.
        batched: both predictions in one run, at twice the memory.
        conditioning: what is known of the clip.
        rescale: how far guided predictions get the spread of the conditional ones, 0 to 1.
        variant: weighs the two predictions by what they are; `None` for plain guidance.
    """

    expert: Callable[[np.float32], Expert]
    arithmetic: Arithmetic[A]
    prompt: A
    negative: A | None
    batched: bool
    conditioning: Conditioning[A] = field(default_factory=Conditioning)
    rescale: float = 0.0
    variant: Variant | None = None

    def __call__(self, latents: A, timestep: np.float32) -> Prediction[A]:
        """Of latents (1, channels, frames, height, width)."""
        return self.predict(self.expert(timestep), latents, self.timesteps(latents, timestep))

    def timesteps(self, latents: A, timestep: np.float32) -> A:
        """The denoiser's input for a timestep, where the other arrays lie."""
        return self.arithmetic.array(self.conditioning.timesteps(timestep, latents))

    def predict(self, expert: Expert, latents: A, timesteps: A) -> Prediction[A]:
        """As a call, of an expert and its input for the timestep."""
        feeds = self.conditioning.feeds(latents, timesteps, self.arithmetic)
        told = {**feeds, PROMPT: self.prompt}
        if self.negative is None or not expert.guided:
            return Prediction(_predict(expert.session, told))
        untold = {**feeds, PROMPT: self.negative}
        if self.batched:
            both = _predict(expert.session, self._batch(told, untold))
            pair = self.arithmetic.halves(both)
        else:
            pair = _predict(expert.session, told), _predict(expert.session, untold)
        return Prediction(*pair, expert.scale, self.rescale, self.variant)

    def _batch(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {name: self.arithmetic.stack(one[name], other[name]) for name in one}


def _predict(session: Session, feeds: dict[str, Any]) -> Any:
    return session.run(feeds)["sample"]


def fits_batched(manifest: Manifest, latent_shape: tuple[int, ...], memory: int) -> bool:
    """Whether two predictions at once stay within a quarter of the memory, in bytes.

    The whole memory counts, not what is free just now: the same machine always decides the same,
    so that its results stay the same bit for bit. `Request.sequential_guidance` overrules it.
    """
    return 2 * working_memory(manifest, latent_shape) <= memory // 4


def working_memory(manifest: Manifest, latent_shape: tuple[int, ...]) -> int:
    """Bytes that one prediction needs beside the weights, in float32, roughly and from above.

    Counts a block's widest moment: eight tensors of the hidden size, the feed-forward's inner one,
    and the attention scores twice, as if all were held. Few engines do: ONNX Runtime on a CPU for
    narrow models alone. They are counted all the same. The planner, which knows from the graph,
    needs a package and time that a run may not have, and the answer must not depend on that. And
    where the scores alone are too large there are thousands of tokens, with which one batch takes
    twice the memory and no less time than two runs (on a CPU: docs/lab.md, 2026-11-22).
    """
    size = manifest.denoiser
    tokens = math.prod(latent_shape[2:]) // math.prod(manifest.latents.patch_size)
    scores = 2 * size.heads * tokens * max(tokens, manifest.text.max_tokens)
    return 4 * (tokens * (8 * size.hidden_size + size.ffn_dim) + scores)
