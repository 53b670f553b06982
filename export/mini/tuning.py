"""What the stages after the first denoiser share: they tune it, and leave the rest as it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .denoiser import CaptionedLatents, described, load_denoiser, load_text, load_vae
from .latents import Latents
from .padding import make_paddable
from .text_encoder import encode, tokenize
from .training import Phase
from .workplace import Workplace

LENGTH = 512
"""The total length of a text that a tuned denoiser meets, as Wan's pipelines pad it."""


class Trained:
    """The modules of the finished stages, all but the denoiser frozen."""

    def __init__(self, workplace: Workplace, device: str) -> None:
        self.device = device
        self.vae = load_vae(workplace, device)
        self.text_encoder, self.tokenizer = load_text(workplace.product("dit"), device)
        self.text_encoder.requires_grad_(False)
        self.denoiser = load_denoiser(workplace.product("dit"), device)
        self.processor = make_paddable(self.denoiser)

    @torch.no_grad()
    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The text encoder's states (n, tokens, width) of captions."""
        return encode(self.text_encoder, tokens, mask)

    def empty(self, n: int) -> tuple[Tensor, Tensor]:
        """States and mask of `n` empty captions, for guidance."""
        tokens, mask = (part.to(self.device) for part in tokenize(self.tokenizer, [""]))
        return self.states(tokens, mask).expand(n, -1, -1), mask.expand(n, -1)

    def lengths(self, n: int) -> Tensor:
        """The total lengths of `n` texts."""
        return torch.full((n,), LENGTH, device=self.device)


def captioned(
    latents: list[Latents],
    trained: Trained,
    seed: int,
    batch: int,
    *,
    dropout: float = 0.0,
    given: float = 0.0,
    emphasis: Mapping[str, float] | None = None,
) -> tuple[Phase]:
    """One phase of latents with captions."""
    chosen = CaptionedLatents(
        described(latents), trained.tokenizer, batch, dropout, given, seed, emphasis=emphasis or {}
    )
    return (Phase(chosen),)
