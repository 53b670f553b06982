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
from .conditioning import levels, unknown, with_given
from .denoiser import denoiser_groups, gather, velocity
from .flow import weighted_error
from .latents import read_latents
from .padding import make_paddable, padded
from .recipe import Recipe
from .samples import GUIDANCE, PROMPTS, pipeline, sample, scheduler
from .sheets import sheet
from .training import Batch, Metrics, mix
from .tuning import Trained, captioned
from .workplace import Workplace

STEPS = 4
TERMINAL = 0.4
"""The last sigma before 0. diffusers' own four sigmas at shift 3 are 1, .86, .60 and .009, the last
of which is no step worth the name; stretched to this one they are 1, .91, .76 and .4."""

WALK = 3
"""The teacher's steps in a piece."""

OWN = 0.5


class DistilledTask:
    """Go in one step where the teacher goes in three, twice each."""

    name = "distill"

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        self.trained = Trained(workplace, device)
        self.student = self.trained.denoiser
        self.teacher = self.trained.copy().requires_grad_(False)
        self.teacher_padding = make_paddable(self.teacher)
        self.shape = recipe.shapes[0]
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.groups = denoiser_groups(self.student)
        self.phases = captioned(
            self.latents,
            self.trained,
            mix(recipe.seed, 7),
            recipe.distilled.batch,
            given=recipe.denoiser.given,
        )

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The squared error of the student's mean velocity over all pieces."""
        clean, given = gather(self.latents, batch)[0], bool(batch["given"])
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        latents = with_given(noise, clean, given)
        captions = self.trained.states(batch["tokens"], batch["mask"]), batch["mask"]
        errors = []
        for begin, end in pieces():
            goal = self._walk(latents, captions, begin, end, given)
            sigmas = _levels(latents, begin, given)
            shown = unknown(sigmas)
            found = self._predict(latents, captions, sigmas).float()
            errors.append(weighted_error(found, (goal - latents) / (end - begin), shown))
            own = torch.rand(len(latents), generator=random, device=clean.device) < OWN
            arrived = latents + (end - begin) * shown * found.detach()
            latents = torch.where(own.view(-1, 1, 1, 1, 1), arrived, goal)
        return torch.stack(errors).mean(), {"last": errors[-1]}

    def _predict(self, latents: Tensor, captions: tuple[Tensor, Tensor], sigmas: Tensor) -> Tensor:
        states, mask = captions
        with padded(self.trained.processor, mask, self.trained.lengths(len(latents))):
            return velocity(self.student, latents, sigmas, states)

    @torch.no_grad()
    def _walk(
        self,
        latents: Tensor,
        captions: tuple[Tensor, Tensor],
        begin: float,
        end: float,
        given: bool,
    ) -> Tensor:
        """Where the guided teacher gets to by Euler steps."""
        n = len(latents)
        empty, nothing = self.trained.empty(n)
        states, mask = torch.cat([captions[0], empty]), torch.cat([captions[1], nothing])
        with padded(self.teacher_padding, mask, self.trained.lengths(2 * n)):
            for sigma, following in pairwise(np.linspace(begin, end, WALK + 1)):
                twice = latents.repeat(2, 1, 1, 1, 1)
                sigmas = _levels(twice, sigma, given)
                told, untold = velocity(self.teacher, twice, sigmas, states).float().chunk(2)
                guided = untold + GUIDANCE * (told - untold)
                latents = latents + (following - sigma) * unknown(sigmas[:n]) * guided
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


def _levels(latents: Tensor, sigma: float, given: bool) -> Tensor:
    level = torch.full((len(latents),), sigma, device=latents.device)
    return levels(level, latents.shape[2], given)


def pieces() -> list[tuple[float, float]]:
    """Where the scheduler begins and ends each of its steps."""
    few = scheduler(TERMINAL)
    few.set_timesteps(STEPS)
    return list(pairwise(few.sigmas.tolist()))
