"""Four steps without guidance, as a LoRA: in one step where the denoiser goes in several.

The way from noise to latents is cut where a four-step scheduler steps. From the beginning of each
piece the denoiser walks it as it is, in small guided steps; with the LoRA it learns to go straight
to where that ends. Half of the pieces begin where it arrived by itself, so that it learns to put
its own errors right. Then a judge looks at where all steps together lead, and the error goes back
through them; a few clips go on following the denoiser, so that nothing is lost for it.

Source: Clark et al. 2023, "Directly Fine-Tuning Diffusion Models on Differentiable Rewards", arXiv
2309.17400, for the judge's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import low_rank
from .conditioning import levels, unknown, with_given
from .denoiser import gather, importance, velocity
from .flow import weighted_error
from .judge import UNKNOWN, disagreement, facts_shown, load_judge
from .latents import Latents, read_latents
from .optimizers import Group
from .padding import padded
from .recipe import Recipe
from .samples import GUIDANCE, PROMPTS, pipeline, sample, scheduler
from .sheets import sheet
from .training import Batch, Metrics, mix, parameters_of
from .tuning import Trained, captioned
from .workplace import Workplace

STEPS = 4
TERMINAL = 0.4
"""The last sigma before 0. diffusers' own four sigmas at shift 3 are 1, .86, .60 and .009, the last
of which is no step worth the name; stretched to this one they are 1, .91, .76 and .4."""

RANK = 32

WALK = 2
"""The guided steps of a piece."""

OWN = 0.5

FOLLOWING = 0.45
"""Until this share of the budget it only follows the denoiser."""
FEW = 4
"""Afterwards one clip of so many does."""
JUDGED = 0.1
"""The weight of what the judge says."""

FILE = "four-steps.safetensors"


class DistilledTask:
    """Go in one step where the denoiser goes in two, twice each; from a LoRA on, if any."""

    name = "distill"

    def __init__(
        self, recipe: Recipe, workplace: Workplace, device: str, lora: Path | None = None
    ) -> None:
        self.trained = Trained(workplace, device)
        seed = mix(recipe.seed, 11)
        self.layers = low_rank.insert(self.trained.denoiser, RANK, low_rank.BLOCK, seed, device)
        if lora is not None:
            low_rank.read(self.layers, lora)
        self.groups = [Group(parameters_of(*self.layers.values()))]
        self.shape = recipe.shapes[0]
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.importance = importance(workplace, device)
        self.judge = load_judge(workplace, self.latents[0].values.shape[1], device)
        self.shown = facts_judged(self.latents, device)
        self.phases = captioned(
            self.latents,
            self.trained,
            mix(recipe.seed, 7),
            recipe.distilled.batch,
            given=recipe.denoiser.given,
            emphasis=recipe.denoiser.emphasis,
        )

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The squared error of the mean velocity over all pieces, and what the judge says.

        A channel counts as much as it moves pixels.
        """
        clean, given = gather(self.latents, batch)[0], bool(batch["given"])
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        begun = with_given(noise, clean, given)
        captions = self.trained.states(batch["tokens"], batch["mask"]), batch["mask"]
        if progress < FOLLOWING:
            return self._followed(begun, captions, given, random), {}
        told = self._told(begun, captions, given)
        shown = self.shown[int(batch["place"])][batch["rows"]]
        judged = disagreement(self.judge, told, shown, random)
        few = -(-len(begun) // FEW)
        states, mask = captions
        followed = self._followed(begun[:few], (states[:few], mask[:few]), given, random)
        return followed + JUDGED * judged, {"followed": followed, "judged": judged}

    def _followed(
        self, latents: Tensor, captions: tuple[Tensor, Tensor], given: bool, random: torch.Generator
    ) -> Tensor:
        """How far each step is from where the denoiser walks."""
        errors = []
        for begin, end in pieces():
            goal = self._walk(latents, captions, begin, end, given)
            sigmas = _levels(latents, begin, given)
            unsure = unknown(sigmas)
            found = self._predict(latents, captions, sigmas)
            wanted = (goal - latents) / (end - begin)
            errors.append(weighted_error(found, wanted, unsure * self.importance))
            own = torch.rand(len(latents), generator=random, device=latents.device) < OWN
            arrived = latents + (end - begin) * unsure * found.detach()
            latents = torch.where(own.view(-1, 1, 1, 1, 1), arrived, goal)
        return torch.stack(errors).mean()

    def _told(self, latents: Tensor, captions: tuple[Tensor, Tensor], given: bool) -> Tensor:
        """Where all steps lead, from noise."""
        for begin, end in pieces():
            sigmas = _levels(latents, begin, given)
            found = self._predict(latents, captions, sigmas)
            latents = latents + (end - begin) * unknown(sigmas) * found
        return latents

    def _predict(self, latents: Tensor, captions: tuple[Tensor, Tensor], sigmas: Tensor) -> Tensor:
        states, mask = captions
        with padded(self.trained.processor, mask, self.trained.lengths(len(latents))):
            return velocity(self.trained.denoiser, latents, sigmas, states).float()

    @torch.no_grad()
    def _walk(
        self,
        latents: Tensor,
        captions: tuple[Tensor, Tensor],
        begin: float,
        end: float,
        given: bool,
    ) -> Tensor:
        """Where the denoiser as it was gets to by guided Euler steps."""
        n = len(latents)
        (states, mask), (empty, nothing) = captions, self.trained.empty(n)
        both = torch.cat([states, empty]), torch.cat([mask, nothing])
        with low_rank.unchanged(self.layers):
            for sigma, following in pairwise(np.linspace(begin, end, WALK + 1)):
                twice = latents.repeat(2, 1, 1, 1, 1)
                sigmas = _levels(twice, sigma, given)
                told, untold = self._predict(twice, both, sigmas).chunk(2)
                guided = untold + GUIDANCE * (told - untold)
                latents = latents + (following - sigma) * unknown(sigmas[:n]) * guided
        return latents

    def sheet(self) -> NDArray[np.uint8]:
        """A few prompts' clips."""
        trained = self.trained
        modules = trained.vae, trained.text_encoder, trained.tokenizer, trained.denoiser
        pipe = pipeline(*modules, terminal=TERMINAL)
        clips = sample(pipe, PROMPTS, self.shape, steps=STEPS, guidance=1.0)
        return sheet([[clip] for clip in clips])

    def save(self, folder: Path) -> None:
        """Write the LoRA."""
        low_rank.write(self.layers, folder / FILE)


def facts_judged(latents: Sequence[Latents], device: str) -> list[Tensor]:
    """The facts that the judge looks for in clips, as `facts_shown` has them.

    It looks for none in what spins: frame by frame a thing is told best if it stands still.
    """
    found = facts_shown(latents, device)
    for part, facts in zip(latents, found, strict=True):
        spinning = [any(item.motion == "spin" for item in scene.objects) for scene in part.scenes]
        facts[torch.tensor(spinning, device=device)] = UNKNOWN
    return found


def _levels(latents: Tensor, sigma: float, given: bool) -> Tensor:
    level = torch.full((len(latents),), sigma, device=latents.device)
    return levels(level, latents.shape[2], given)


def pieces() -> list[tuple[float, float]]:
    """Where the scheduler begins and ends each of its steps."""
    few = scheduler(TERMINAL)
    few.set_timesteps(STEPS)
    return list(pairwise(few.sigmas.tolist()))
