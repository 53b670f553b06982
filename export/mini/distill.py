"""The few-step sibling: in four steps, without guidance, where the teacher goes in many.

The way from noise to latents is cut where a four-step scheduler steps. From the beginning of each
piece the teacher walks it in small guided steps; the student learns to go straight to where that
ends. Half of the pieces begin where the student itself arrived, so that it learns to put its own
errors right.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .assemble import assemble
from .denoiser import gather, velocity
from .latents import read_latents
from .padding import make_paddable, padded
from .recipe import Recipe
from .samples import GUIDANCE, PROMPTS, pipeline, sample, scheduler
from .sheets import sheet
from .training import Batch, Metrics, parameters_of
from .tuning import Trained, captioned
from .workplace import Workplace

STEPS = 4
TERMINAL = 0.4
"""The last sigma before 0. diffusers' own four sigmas at shift 3 are 1, .86, .60 and .009, the last
of which is no step worth the name; stretched to this one they are 1, .91, .76 and .4."""

WALK = 6
"""The teacher's steps in a piece."""

OWN = 0.5


class DistilledTask:
    """Go in one step where the teacher goes in six, twice each."""

    name = "distill"

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        self.trained = Trained(workplace, device)
        self.student = self.trained.denoiser
        self.teacher = self.trained.copy().requires_grad_(False)
        self.teacher_padding = make_paddable(self.teacher)
        self.shape = recipe.shapes[0]
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.groups = [(parameters_of(self.student), 1.0)]
        self.phases = captioned(
            self.latents, self.trained, recipe, recipe.distilled.batch, dropout=0.0, stage=7
        )

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The squared error of the student's mean velocity over all pieces."""
        like = gather(self.latents, batch)[0]
        latents = torch.randn(like.shape, generator=random, device=like.device)
        captions = self.trained.states(batch["tokens"], batch["mask"]), batch["mask"]
        errors = []
        for begin, end in pieces():
            goal = self._walk(latents, captions, begin, end)
            found = self._predict(latents, captions, begin).float()
            errors.append(((found - (goal - latents) / (end - begin)) ** 2).mean())
            own = torch.rand(len(latents), generator=random, device=like.device) < OWN
            arrived = latents + (end - begin) * found.detach()
            latents = torch.where(own.view(-1, 1, 1, 1, 1), arrived, goal)
        return torch.stack(errors).mean(), {"last": errors[-1]}

    def _predict(self, latents: Tensor, captions: tuple[Tensor, Tensor], sigma: float) -> Tensor:
        states, mask = captions
        n = len(latents)
        with padded(self.trained.processor, mask, self.trained.lengths(n)):
            level = torch.full((n,), sigma, device=latents.device)
            return velocity(self.student, latents, level, states)

    @torch.no_grad()
    def _walk(
        self, latents: Tensor, captions: tuple[Tensor, Tensor], begin: float, end: float
    ) -> Tensor:
        """Where the guided teacher gets to by Euler steps."""
        n = len(latents)
        empty, nothing = self.trained.empty(n)
        states, mask = torch.cat([captions[0], empty]), torch.cat([captions[1], nothing])
        with padded(self.teacher_padding, mask, self.trained.lengths(2 * n)):
            for sigma, following in pairwise(np.linspace(begin, end, WALK + 1)):
                level = torch.full((2 * n,), sigma, device=latents.device)
                both = velocity(self.teacher, latents.repeat(2, 1, 1, 1, 1), level, states)
                told, untold = both.float().chunk(2)
                latents = latents + (following - sigma) * (untold + GUIDANCE * (told - untold))
        return latents

    def sheet(self) -> NDArray[np.uint8]:
        """A few prompts' clips."""
        trained = self.trained
        pipe = pipeline(
            trained.vae, trained.text_encoder, trained.tokenizer, self.student, terminal=TERMINAL
        )
        clips = sample(pipe, PROMPTS, self.shape, steps=STEPS, guidance=1.0)
        return sheet([[clip] for clip in clips])

    def save(self, folder: Path) -> None:
        """Write a whole checkpoint."""
        assemble(self.trained.workplace, self.student, folder, terminal=TERMINAL)


def pieces() -> list[tuple[float, float]]:
    """Where the scheduler begins and ends each of its steps."""
    few = scheduler(TERMINAL)
    few.set_timesteps(STEPS)
    return list(pairwise(few.sigmas.tolist()))
