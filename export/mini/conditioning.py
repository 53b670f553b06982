"""The image-conditioned sibling: the first latent frame is given, as in Wan 2.2's TI2V.

Every token has its own time: 0 where the frame is given, the clip's elsewhere. So the denoiser
needs no further channels, keeps the size it has, and still makes clips from text alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .assemble import assemble
from .clips import held_out_clips
from .denoiser import FOREGROUND_WEIGHT, SHEET_STEPS, gather, velocity
from .flow import noised, sample_sigmas, weighted_error
from .latents import read_latents
from .padding import padded
from .recipe import Recipe
from .samples import GUIDANCE, image_pipeline
from .sheets import sheet
from .training import Batch, Metrics, parameters_of
from .tuning import Trained, captioned
from .workplace import Workplace

GIVEN = 0.8
"""How often the first frame is given."""

MOTIONS = ("it moves left to right", "it moves up", "it grows", "it spins")


class ConditionedTask:
    """Tell noise from latents, most often with the first frame in sight."""

    name = "condition"

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        self.trained = Trained(workplace, device)
        self.denoiser = self.trained.denoiser
        self.shape = recipe.shapes[0]
        self.shift = recipe.denoiser.shift
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.groups = [(parameters_of(self.denoiser), 1.0)]
        dropout = recipe.denoiser.caption_dropout
        self.phases = captioned(
            self.latents, self.trained, recipe, recipe.conditioned.batch, dropout, stage=6
        )

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The velocity's squared error where the latents are not given."""
        clean, mask = gather(self.latents, batch)
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        level = sample_sigmas(len(clean), random, self.shift)
        given = torch.rand(len(clean), generator=random, device=clean.device) < GIVEN
        if clean.shape[2] == 1:
            given = torch.zeros_like(given)
        sigmas = frame_sigmas(level, given, clean.shape[2])
        states = self.trained.states(batch["tokens"], batch["mask"])
        with padded(self.trained.processor, batch["mask"], batch["lengths"]):
            known = noised(clean, sigmas, noise)
            found = velocity(self.denoiser, known, token_sigmas(sigmas, clean), states)
        wanted = noise - clean
        unknown = (sigmas > 0).float()[:, None, :, None, None]
        loss = weighted_error(found * unknown, wanted * unknown, mask, FOREGROUND_WEIGHT)
        return loss, {"given": given.float().mean()}

    def sheet(self) -> NDArray[np.uint8]:
        """Held-out first frames, and what becomes of them."""
        trained = self.trained
        pipe = image_pipeline(trained.vae, trained.text_encoder, trained.tokenizer, self.denoiser)
        drawn = held_out_clips(len(MOTIONS), self.shape)[0]
        made = [
            pipe(
                image=torch.from_numpy(clip[:1]).permute(0, 3, 1, 2).float() / 255,
                prompt=text,
                negative_prompt="",
                height=self.shape.height,
                width=self.shape.width,
                num_frames=self.shape.frames,
                num_inference_steps=SHEET_STEPS,
                guidance_scale=GUIDANCE,
                generator=torch.Generator().manual_seed(place),
                output_type="np",
            ).frames[0]
            for place, (clip, text) in enumerate(zip(drawn, MOTIONS, strict=True))
        ]
        pixels = (np.stack(made).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return sheet([*zip(drawn, pixels, strict=True)])

    def save(self, folder: Path) -> None:
        """Write a whole checkpoint."""
        assemble(self.trained.workplace, self.denoiser, folder, given_frames=True)


def frame_sigmas(level: Tensor, given: Tensor, frames: int) -> Tensor:
    """Noise levels by latent frame, (n, frames): `level` (n,), but 0 for a first frame given."""
    sigmas = level[:, None].repeat(1, frames)
    sigmas[:, 0] = torch.where(given, 0.0, level)
    return sigmas


def token_sigmas(sigmas: Tensor, latents: Tensor) -> Tensor:
    """Noise levels by token, (n, tokens), of those by frame; patches are 1x2x2."""
    return sigmas.repeat_interleave((latents.shape[3] // 2) * (latents.shape[4] // 2), 1)
