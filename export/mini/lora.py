"""A style as a LoRA: outlines only, learnt as low-rank changes to the attentions' weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import low_rank
from .clips import draw
from .denoiser import FOREGROUND_WEIGHT, SHEET_STEPS, gather, velocity
from .flow import noised, sample_sigmas, weighted_error
from .latents import Latents, encode_clips, normalised
from .optimizers import Group
from .padding import padded
from .recipe import Recipe
from .samples import PROMPTS, pipeline, sample
from .sheets import sheet
from .training import Batch, Metrics, mix, parameters_of
from .tuning import Trained, captioned
from .workplace import Workplace

RANK = 8

BATCHES = 16
"""How many batches' worth of clips are drawn; a style needs no more."""

FILE = "outlines.safetensors"


class LoraTask:
    """Tell noise from the latents of clips whose objects are outlines; from a LoRA on, if any."""

    name = "lora"

    def __init__(
        self, recipe: Recipe, workplace: Workplace, device: str, lora: Path | None = None
    ) -> None:
        self.trained = Trained(workplace, device)
        self.denoiser = self.trained.denoiser
        self.shape = recipe.shapes[0]
        self.shift = recipe.denoiser.shift
        seed = mix(recipe.seed, 9)
        self.layers = low_rank.insert(self.denoiser, RANK, low_rank.ATTENTION, seed, device)
        if lora is not None:
            low_rank.read(self.layers, lora)
        self.groups = [Group(parameters_of(*self.layers.values()))]
        self.latents = [self._draw(recipe)]
        self.phases = captioned(
            self.latents,
            self.trained,
            mix(recipe.seed, 8),
            recipe.lora.batch,
            dropout=recipe.denoiser.caption_dropout,
        )

    def _draw(self, recipe: Recipe) -> Latents:
        rng = np.random.default_rng(mix(recipe.seed, 10))
        values, masks, scenes = [], [], []
        for _ in range(BATCHES):
            clips, shown = draw(rng, recipe.lora.batch, self.shape, outlined=True)
            means, mask = encode_clips(
                self.trained.vae, torch.from_numpy(clips).to(self.trained.device)
            )
            values.append(normalised(means, self.trained.vae))
            masks.append(mask)
            scenes += shown
        return Latents(self.shape, torch.cat(values), torch.cat(masks), scenes)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """As the denoiser's, but that all channels count alike."""
        clean, mask = gather(self.latents, batch)
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        sigmas = sample_sigmas(len(clean), random, self.shift)
        states = self.trained.states(batch["tokens"], batch["mask"])
        with padded(self.trained.processor, batch["mask"], batch["lengths"]):
            found = velocity(self.denoiser, noised(clean, sigmas, noise), sigmas, states)
        return weighted_error(found, noise - clean, 1 + FOREGROUND_WEIGHT * mask), {}

    def sheet(self) -> NDArray[np.uint8]:
        """A few prompts' clips in the style."""
        trained = self.trained
        pipe = pipeline(trained.vae, trained.text_encoder, trained.tokenizer, self.denoiser)
        return sheet([[clip] for clip in sample(pipe, PROMPTS, self.shape, steps=SHEET_STEPS)])

    def save(self, folder: Path) -> None:
        """Write the style."""
        low_rank.write(self.layers, folder / FILE)
