"""The decoder's stage: it goes on alone, so that latents that were made stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .clips import WholeClips, as_video, held_out_clips
from .optimizers import Group
from .recipe import Recipe
from .sheets import sheet
from .training import Batch, Metrics, Phase, mix, parameters_of
from .vae import channels_last, pixel_error, reconstruct, save_vae
from .whole import decode_whole, encode_whole, make_whole
from .workplace import Workplace

SQUARED = 12.0
"""The weight of the squared error, four times what it is while latents are learnt."""


class DecoderTask:
    """Rebuild clips from what the finished encoder makes of them."""

    name = "decoder"

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        from diffusers import AutoencoderKLWan

        vae = AutoencoderKLWan.from_pretrained(workplace.product("vae"))
        self.vae = channels_last(make_whole(vae)).to(device)
        self.vae.encoder.requires_grad_(False)
        self.vae.quant_conv.requires_grad_(False)
        self.groups = [Group(parameters_of(self.vae))]
        self.shapes = recipe.shapes
        seed = mix(recipe.seed, 12)
        clips = WholeClips(recipe.shapes, recipe.vae.clips, seed, recipe.vae.emphasis)
        self.phases = (Phase(clips),)
        self._shown = held_out_clips(6, recipe.shapes[0])[0]
        self._compiled: Any = None

    def compile(self) -> None:
        """Compile the decoder for clips of the default shape; it takes a minute."""
        self._compiled = torch.compile(decode_whole, dynamic=False)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """As the autoencoder's, but for the prior on latents, and closer to the pixels."""
        clips = batch["clips"]
        default = self.shapes[0].frames, self.shapes[0].height, self.shapes[0].width
        frequent = self._compiled is not None and tuple(clips.shape[1:4]) == default
        decode = self._compiled if frequent else decode_whole
        with torch.no_grad():
            mean, log_variance = encode_whole(self.vae, as_video(clips))
        noise = torch.randn(mean.shape, generator=random, device=mean.device)
        made = decode(self.vae, mean + noise * (0.5 * log_variance).exp())
        return pixel_error(made, clips, SQUARED)

    def sheet(self) -> NDArray[np.uint8]:
        """Held-out clips, and beside them what the autoencoder makes of them."""
        return sheet(list(zip(self._shown, reconstruct(self.vae, self._shown), strict=True)))

    def save(self, folder: Path) -> None:
        """Write the whole autoencoder in diffusers' format."""
        save_vae(self.vae, folder)
