"""A style as a LoRA: pixel art, learnt as low-rank changes to the attentions' weights.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The file's keys are
those that diffusers' Wan pipelines load.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from ...engine.folders import write_whole
from .clips import draw
from .denoiser import FOREGROUND_WEIGHT, SHEET_STEPS, gather, velocity
from .flow import noised, sample_sigmas, weighted_error
from .latents import Latents, encode_clips
from .optimizers import Group
from .padding import padded
from .recipe import Recipe
from .samples import PROMPTS, pipeline, sample
from .sheets import sheet
from .training import Batch, Metrics, mix, parameters_of
from .tuning import Trained, captioned
from .workplace import Workplace

RANK = 8
BLOCK = 4
"""A pixel-art pixel's side."""

BATCHES = 16
"""How many batches' worth of clips are drawn; a style needs no more."""

FILE = "pixel-art.safetensors"
PREFIX = "transformer."


class LoraTask:
    """Tell noise from the latents of pixel art."""

    name = "lora"

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        self.trained = Trained(workplace, device)
        self.denoiser = self.trained.denoiser.requires_grad_(False)
        self.shape = recipe.shapes[0]
        self.shift = recipe.denoiser.shift
        self.layers = insert(self.denoiser, mix(recipe.seed, 9), device)
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
        config = self.trained.vae.config
        statistics = config.latents_mean, config.latents_std
        mean, std = (torch.tensor(v)[:, None, None, None] for v in statistics)
        values, masks, scenes = [], [], []
        for _ in range(BATCHES):
            clips, shown = draw(rng, recipe.lora.batch, self.shape)
            pixels = torch.from_numpy(pixelated(clips)).to(self.trained.device)
            means, mask = encode_clips(self.trained.vae, pixels)
            values.append((means - mean.to(means)) / std.to(means))
            masks.append(mask)
            scenes += shown
        return Latents(self.shape, torch.cat(values), torch.cat(masks), scenes)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """As the denoiser's."""
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
        """Write the style, in half precision."""
        tensors = {
            f"{PREFIX}{name}.{part}.weight": getattr(layer, part).weight.half().cpu()
            for name, layer in self.layers.items()
            for part in ("lora_A", "lora_B")
        }
        write_whole(folder / FILE, save(tensors, metadata={"format": "pt"}))


class LoraLinear(nn.Module):
    """A linear layer and a low-rank change to it, which is nothing at first."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """What the layer gives, changed."""
        changed: Tensor = self.base(hidden) + self.lora_B(self.lora_A(hidden))
        return changed


def insert(denoiser: Any, seed: int, device: str) -> dict[str, LoraLinear]:
    """Put a low-rank change on every linear layer of a denoiser's attentions; they go by name."""
    torch.manual_seed(seed)
    names = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and (".attn1." in name or ".attn2." in name)
    ]
    layers = {}
    for name in names:
        place, _, last = name.rpartition(".")
        layers[name] = LoraLinear(denoiser.get_submodule(name)).to(device)
        setattr(denoiser.get_submodule(place), last, layers[name])
    return layers


def pixelated(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Clips (n, frames, height, width, 3) in blocks of one colour each."""
    n, frames, height, width, _ = clips.shape
    blocks = clips.reshape(n, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    flat = blocks.mean((3, 5), keepdims=True).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(flat, blocks.shape)).reshape(clips.shape)
