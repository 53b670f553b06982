"""The denoiser's stage: noise to latents, told by a caption; the text encoder learns beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...bench.adherence.scene import Scene
from .captions import caption, sequel
from .clips import proportionate
from .conditioning import by_token, levels, unknown
from .flow import noised, sample_sigmas, weighted_error
from .latents import Latents, read_latents, read_statistics
from .optimizers import Group
from .padding import LENGTHS, make_paddable, padded
from .recipe import TIME_STEPS, Recipe
from .samples import PROMPTS, pipeline, sample
from .scenes import weight
from .sheets import sheet
from .text_encoder import encode, position_groups, tokenize
from .tokenizer import load_tokenizer
from .training import Batch, Metrics, Phase, mix
from .vae import begin_with
from .whole import make_whole
from .workplace import Workplace

FOREGROUND_WEIGHT = 7.0
SEQUELS = 0.5
GATE = 0.3
SHEET_STEPS = 12


@dataclass(frozen=True)
class CaptionedLatents(Dataset[Batch]):
    """Which latents are in a batch, and what is said of them; the latents stay on the device.

    Attributes:
        latents: by shape.
        tokenizer: of the captions.
        batch: how many of the first shape; of others in proportion.
        dropout: how often a caption is empty.
        given: how often the batch's first latent frame is given; then half of the captions say
            only what happens.
        seed: of choices and captions.
        images: the share of batches that are single frames, or as their shapes have it.
        emphasis: how much oftener scenes are chosen that have these words.
    """

    latents: Sequence[Latents]
    tokenizer: Any
    batch: int
    dropout: float
    given: float
    seed: int
    images: float | None = None
    emphasis: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        place = int(rng.choice(len(self.latents), p=self._shares()))
        chosen = self.latents[place]
        n = proportionate(self.batch, chosen.shape, self.latents[0].shape)
        rows = rng.choice(len(chosen.scenes), size=n, p=self._chances[place])
        given = chosen.shape.frames > 1 and rng.random() < self.given
        captions = [self._caption(chosen.scenes[row], given, rng) for row in rows]
        tokens, mask = tokenize(self.tokenizer, captions)
        return {
            "place": torch.tensor(place),
            "rows": torch.from_numpy(rows),
            "tokens": tokens,
            "mask": mask,
            "lengths": torch.from_numpy(rng.choice(LENGTHS, n)),
            "given": torch.tensor(given),
        }

    @cached_property
    def _chances(self) -> list[NDArray[np.float64]]:
        """Each scene's, by shape of the clips."""
        weights = [
            np.array([weight(scene, self.emphasis) for scene in part.scenes])
            for part in self.latents
        ]
        return [weight / weight.sum() for weight in weights]

    def _shares(self) -> NDArray[np.float64]:
        shares = np.array([found.shape.share for found in self.latents])
        still = np.array([found.shape.frames == 1 for found in self.latents])
        if self.images is not None and still.any() and not still.all():
            shares[still] *= self.images / shares[still].sum()
            shares[~still] *= (1 - self.images) / shares[~still].sum()
        return np.asarray(shares / shares.sum())

    def _caption(self, scene: Scene, given: bool, rng: np.random.Generator) -> str:
        if rng.random() < self.dropout:
            return ""
        return (sequel if given and rng.random() < SEQUELS else caption)(scene, rng)


class DenoiserTask:
    """Tell noise from latents; from the weights of `checkpoint` on, where it has them."""

    name = "dit"

    def __init__(
        self,
        recipe: Recipe,
        workplace: Workplace,
        device: str,
        checkpoint: Path | None = None,
    ) -> None:
        settings = recipe.denoiser
        self.shape = recipe.shapes[0]
        frames, *area = self.shape.latent
        self._frequent = {(frames, *area), (1, *area)}
        self.shift = settings.shift
        self.text_encoder, self.tokenizer = load_text(workplace.product("text"), device)
        width = self.text_encoder.config.d_model
        self.denoiser = make_denoiser(settings.model, width, recipe.seed).to(device)
        images_until = settings.image_phase
        if checkpoint is not None and (checkpoint / "transformer").is_dir():
            begin_with(self.denoiser, checkpoint / "transformer")
            images_until = 0.0  # it has learnt what things look like
        self.vae = load_vae(workplace, device)
        self.latents = read_latents(workplace, recipe.shapes, device)
        self.processor = make_paddable(self.denoiser)
        self._compiled: Any = None
        self.groups = [
            *denoiser_groups(self.denoiser),
            *position_groups(self.text_encoder, settings.text_rate),
        ]
        self.importance = importance(workplace, device)
        captioned = CaptionedLatents(
            described(self.latents),
            self.tokenizer,
            settings.batch,
            settings.caption_dropout,
            settings.given,
            mix(recipe.seed, 5),
            settings.later_images,
            settings.emphasis,
        )
        first = replace(captioned, images=settings.images)
        self.phases = (Phase(first, images_until), Phase(captioned))

    def compile(self) -> None:
        """Compile the denoiser for the batches met most: the default size, nothing given."""
        self._compiled = torch.compile(self.denoiser, dynamic=False)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The velocity's squared error where latents are not given.

        Objects count eight times; a channel counts as much as it moves pixels.
        """
        clean, mask = gather(self.latents, batch)
        noise = torch.randn(clean.shape, generator=random, device=clean.device)
        level = sample_sigmas(len(clean), random, self.shift)
        sigmas = levels(level, clean.shape[2], bool(batch["given"]))
        states = encode(self.text_encoder, batch["tokens"], batch["mask"])
        frequent = self._compiled is not None and tuple(clean.shape[2:]) in self._frequent
        frequent = frequent and not bool(batch["given"])
        denoiser = self._compiled if frequent else self.denoiser
        with padded(self.processor, batch["mask"], batch["lengths"]):
            found = velocity(denoiser, noised(clean, sigmas, noise), sigmas, states)
        wanted = noise - clean
        shown = unknown(sigmas)
        error = weighted_error(
            found, wanted, shown * (1 + FOREGROUND_WEIGHT * mask) * self.importance
        )
        return error, {"mse": weighted_error(found, wanted, shown)}

    def sheet(self) -> NDArray[np.uint8]:
        """A few prompts' clips, in few steps."""
        pipe = pipeline(self.vae, self.text_encoder, self.tokenizer, self.denoiser)
        clips = sample(pipe, PROMPTS, self.shape, steps=SHEET_STEPS)
        return sheet([[clip] for clip in clips])

    def save(self, folder: Path) -> None:
        """Write denoiser, text encoder and tokenizer into subfolders."""
        self.denoiser.save_pretrained(folder / "transformer")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")


def make_denoiser(model: Any, text_width: int, seed: int) -> Any:
    """A new `WanTransformer3DModel` that begins by predicting nothing, its gates ajar."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    denoiser = WanTransformer3DModel(**model, text_dim=text_width)
    with torch.no_grad():
        denoiser.proj_out.weight.zero_()
        denoiser.proj_out.bias.zero_()
        for block in denoiser.blocks:
            block.scale_shift_table[:, [2, 5]] += GATE
    return denoiser.train()


def denoiser_groups(denoiser: Any) -> list[Group]:
    """The denoiser's parameters: the matrices of its blocks, and all else."""
    hidden = [p for p in denoiser.blocks.parameters() if p.ndim == 2]
    known = set(hidden)
    return [Group([p for p in denoiser.parameters() if p not in known]), Group(hidden, hidden=True)]


def load_denoiser(folder: Path, device: str) -> Any:
    """The denoiser that an earlier stage wrote."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel.from_pretrained(folder / "transformer").to(device)


def load_text(folder: Path, device: str) -> tuple[Any, Any]:
    """The text encoder and the tokenizer that an earlier stage wrote."""
    from transformers import UMT5EncoderModel

    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder")
    encoder.float()  # transformers keeps the file's precision, diffusers does not
    return encoder.to(device), load_tokenizer(folder / "tokenizer")


def load_vae(workplace: Workplace, device: str, stage: str | None = None) -> Any:
    """A stage's autoencoder, with its latents' statistics where they are measured.

    By default the decoder's, where that is finished: it has the same encoder.
    """
    from diffusers import AutoencoderKLWan

    stage = stage or ("decoder" if workplace.finished("decoder") else "vae")
    vae = AutoencoderKLWan.from_pretrained(workplace.product(stage)).to(device)
    if workplace.finished("latents"):
        found = read_statistics(workplace.product("latents"))
        vae.register_to_config(latents_mean=found.mean, latents_std=found.std)
    return make_whole(vae).eval().requires_grad_(False)


def importance(workplace: Workplace, device: str) -> Tensor:
    """How much each channel of the latents moves pixels, (channels, 1, 1, 1)."""
    found = read_statistics(workplace.product("latents")).importance
    return torch.tensor(found, device=device).view(-1, 1, 1, 1)


def velocity(denoiser: Any, latents: Tensor, sigmas: Tensor, states: Tensor) -> Tensor:
    """What the denoiser predicts, noise less latents, at noise levels (n,) or (n, frames)."""
    times = by_token(sigmas, latents) * TIME_STEPS
    found: Tensor = denoiser(latents, times, states, return_dict=False)[0]
    return found


def gather(latents: Sequence[Latents], batch: Batch) -> tuple[Tensor, Tensor]:
    """The latents float32 (n, channels, frames, height, width) of a batch, and their foreground."""
    chosen = latents[int(batch["place"])]
    rows = batch["rows"]
    return chosen.values[rows].float(), chosen.mask[rows].float()


def described(latents: Sequence[Latents]) -> list[Latents]:
    """The same without tensors, for worker processes, which need the scenes only."""
    nothing = torch.empty(0)
    return [Latents(found.shape, nothing, nothing, found.scenes) for found in latents]
