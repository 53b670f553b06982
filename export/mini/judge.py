"""A judge of latents: it tells which shapes a frame shows, and so whether a denoiser drew them.

It learns from the world's own clips, more or less noisy, and never sees a denoiser's. Shapes that
melt on the way to a disc, as a denoiser's do, are drawn for it as well: they are none. What a model
is measured by are the frames, which bench/adherence reads without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from ...bench.adherence.scene import Scene
from ...bench.adherence.vocabulary import FULL, SIZED_MOTIONS
from ...engine.folders import write_whole
from .clips import draw
from .denoiser import CaptionedLatents, described, gather, load_text, load_vae
from .flow import noised
from .latents import Latents, encode_clips, normalised, read_latents
from .optimizers import Group
from .recipe import Recipe
from .training import Batch, Metrics, Phase, mix, parameters_of
from .vae import channels_last
from .workplace import Workplace

STAGE = "judge"
FILE = "judge.safetensors"

WIDTH = 64
GROUPS = 8

NOISIEST = 0.4
"""Up to this noise level it judges."""

DISC = "circle"
MELTED = (0.5, 1.0)
"""How far shapes melt that are none any more."""
SHARDS = 8
"""So many shards' worth of them are drawn."""
MELTING = 0.5
"""What they count beside the world's."""

FACTS = (*FULL.shapes, *FULL.sizes)
"""What may be there; of sizes one thing's, where its motion keeps it."""
UNKNOWN = -1
"""Of a fact that nobody asks about."""


class Judge(nn.Sequential):
    """A small convolutional network from frames of latents to a logit for each fact."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            _Block(WIDTH),
            _Block(WIDTH),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            _Block(2 * WIDTH),
            _Block(2 * WIDTH),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * WIDTH, len(FACTS)),
        )


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        changed: Tensor = hidden + self.change(hidden)
        return changed


def facts_shown(latents: Sequence[Latents], device: str) -> list[Tensor]:
    """Which facts are true of each clip, float32 (n, facts): 1 or 0, or `UNKNOWN`."""
    return [
        torch.tensor([_facts(scene) for scene in part.scenes], dtype=torch.float32, device=device)
        for part in latents
    ]


def _facts(scene: Scene) -> list[int]:
    first, *others = scene.objects
    shapes = {item.shape for item in scene.objects}
    known = not others and first.motion in SIZED_MOTIONS
    sizes = [int(size == first.size) if known else UNKNOWN for size in FULL.sizes]
    return [*(int(shape in shapes) for shape in FULL.shapes), *sizes]


def melted_facts(scene: Scene) -> list[int]:
    """What is true of a melted scene: only circles are what they were; discs may look like them."""
    circle = 1 if any(item.shape == DISC for item in scene.objects) else UNKNOWN
    shapes = (circle if shape == DISC else 0 for shape in FULL.shapes)
    return [*shapes, *[UNKNOWN] * len(FULL.sizes)]


def disagreement(
    judge: nn.Module, latents: Tensor, shown: Tensor, random: torch.Generator
) -> Tensor:
    """How far a judge is from finding facts in every frame of latents, to which it adds noise.

    Args:
        judge: as `Judge`.
        latents: (n, channels, frames, height, width).
        shown: (n, facts), as `facts_shown` says.
        random: for the noise.

    Returns:
        The sum of the facts' cross entropies, on average over clips and frames.
    """
    n, _, frames, *_ = latents.shape
    sigmas = NOISIEST * torch.rand(n, generator=random, device=latents.device)
    noise = torch.randn(latents.shape, generator=random, device=latents.device)
    seen = noised(latents, sigmas, noise).transpose(1, 2).flatten(0, 1)
    told = judge(seen.contiguous(memory_format=torch.channels_last)).float()
    wanted = shown.repeat_interleave(frames, 0)
    each = functional.binary_cross_entropy_with_logits(told, wanted.clamp(min=0), reduction="none")
    return (each * (wanted >= 0)).sum(1).mean()


class JudgeTask:
    """Tell which shapes frames show, and how large."""

    name = STAGE

    def __init__(self, recipe: Recipe, workplace: Workplace, device: str) -> None:
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.shown = facts_shown(self.latents, device)
        self.melted = self._melted(recipe, workplace, device)
        tokenizer = load_text(workplace.product("dit"), device)[1]
        torch.manual_seed(mix(recipe.seed, 13))
        judge = Judge(self.latents[0].values.shape[1])
        self.judge = judge.to(device)
        self.groups = [Group(parameters_of(self.judge))]
        chosen = CaptionedLatents(
            described(self.latents), tokenizer, recipe.judge.batch, 0.0, 0.0, mix(recipe.seed, 14)
        )
        self.phases = (Phase(chosen),)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """How far it is from what is shown, and from finding shapes where they have melted."""
        clean = gather(self.latents, batch)[0]
        shown = self.shown[int(batch["place"])][batch["rows"]]
        told = disagreement(self.judge, clean, shown, random)
        latents, facts = self.melted
        rows = torch.randint(len(facts), (len(clean),), generator=random, device=facts.device)
        fooled = disagreement(self.judge, latents[rows].float(), facts[rows], random)
        return told + MELTING * fooled, {"told": told, "fooled": fooled}

    @staticmethod
    def _melted(recipe: Recipe, workplace: Workplace, device: str) -> tuple[Tensor, Tensor]:
        """Latents of clips whose shapes have melted, and what is true of them."""
        rng = np.random.default_rng(mix(recipe.seed, 15))
        clips, scenes = draw(rng, SHARDS * recipe.shard, recipe.shapes[0], melted=MELTED)
        vae = channels_last(load_vae(workplace, device, "vae"))
        means, _ = encode_clips(vae, torch.from_numpy(clips).to(device))
        facts = [melted_facts(scene) for scene in scenes]
        told = torch.tensor(facts, dtype=torch.float32, device=device)
        return normalised(means, vae), told

    def sheet(self) -> None:
        """Nothing to look at."""

    def save(self, folder: Path) -> None:
        """Write the judge."""
        tensors = {name: value.contiguous() for name, value in self.judge.state_dict().items()}
        write_whole(folder / FILE, save(tensors))


def load_judge(workplace: Workplace, channels: int, device: str) -> Judge:
    """The judge that its stage wrote, frozen."""
    judge = Judge(channels)
    judge.load_state_dict(load_file(workplace.product(STAGE) / FILE))
    return judge.to(device).eval().requires_grad_(False)
