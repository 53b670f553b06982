"""The text encoder's first stage: it learns what captions say before it meets the denoiser.

From its states a small head tells each attribute of the scene; word order ("left to right") and
which word goes with which object are learnt here, faster than through the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from ...bench.adherence.scene import Scene
from ...bench.adherence.vocabulary import COLOURS, FULL
from .captions import caption
from .optimizers import Group
from .recipe import Recipe
from .scenes import sample_scenes
from .tokenizer import make_tokenizer
from .training import Batch, Metrics, Phase, mix, parameters_of

TEXT_TOKENS = 32
"""Captions are cut to this many tokens in training; the longest have about 30."""

NOTHING = ""
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": FULL.shapes,
    "colour": tuple(COLOURS),
    "motion": FULL.motions,
    "size": FULL.sizes,
    "background": FULL.backgrounds,
    "camera": FULL.cameras,
    "relation": (NOTHING, *FULL.relations),
    "other shape": (NOTHING, *FULL.shapes),
    "other colour": (NOTHING, *COLOURS),
}
POSITION_RATE = 10.0
"""How much faster the relative position bias learns; else word order is not learnt in time."""


@dataclass(frozen=True)
class Captions(Dataset[Batch]):
    """Captions and what they say: "tokens" (n, 32) int64, "mask" likewise, "labels" (n, 9)."""

    tokenizer: Any
    batch: int
    seed: int

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        scenes = sample_scenes(rng, self.batch, "train")
        tokens, mask = tokenize(self.tokenizer, [caption(scene, rng) for scene in scenes])
        return {"tokens": tokens, "mask": mask, "labels": torch.tensor([*map(labels, scenes)])}


class AttributeHead(nn.Module):
    """For every attribute a learnt query that looks at the tokens, and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(ATTRIBUTES), width) / width**0.5)
        self.classifiers = nn.ModuleList(
            nn.Linear(width, len(words)) for words in ATTRIBUTES.values()
        )

    def forward(self, states: Tensor, mask: Tensor) -> list[Tensor]:
        """Logits by attribute, each (n, words), of states (n, tokens, width)."""
        seen = (states @ self.queries.T).masked_fill(mask[..., None] == 0, -torch.inf)
        pooled = seen.softmax(1).transpose(1, 2) @ states
        return [classifier(pooled[:, i]) for i, classifier in enumerate(self.classifiers)]


class TextTask:
    """Tell a scene's attributes from its caption."""

    name = "text"

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.tokenizer = make_tokenizer(recipe.seed)
        self.encoder = make_text_encoder(recipe.text.model, len(self.tokenizer), recipe.seed)
        self.head = AttributeHead(recipe.text.model["d_model"])
        self.encoder.to(device)
        self.head.to(device)
        self.groups = [*position_groups(self.encoder, 1.0), Group(parameters_of(self.head))]
        captions = Captions(self.tokenizer, recipe.text.captions, mix(recipe.seed, 3))
        self.phases = (Phase(captions),)

    def loss(
        self, batch: Batch, random: torch.Generator, progress: float
    ) -> tuple[Tensor, Metrics]:
        """The attributes' mean cross entropy."""
        logits = self.logits(batch["tokens"], batch["mask"])
        wanted = batch["labels"].T
        each = [
            functional.cross_entropy(found.float(), labels)
            for found, labels in zip(logits, wanted, strict=True)
        ]
        right = torch.stack(
            [found.argmax(1) == labels for found, labels in zip(logits, wanted, strict=True)]
        )
        return torch.stack(each).mean(), {"right": right.float().mean()}

    def logits(self, tokens: Tensor, mask: Tensor) -> list[Tensor]:
        """Logits by attribute, each (n, words)."""
        found: list[Tensor] = self.head(encode(self.encoder, tokens, mask), mask)
        return found

    def sheet(self) -> None:
        """Nothing to look at."""

    def save(self, folder: Path) -> None:
        """Write encoder and tokenizer into subfolders."""
        self.encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")


def make_text_encoder(model: Any, vocabulary: int, seed: int) -> Any:
    """A new `UMT5EncoderModel`."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(seed)
    encoder = UMT5EncoderModel(UMT5Config(**model, vocab_size=vocabulary, is_encoder_decoder=False))
    for name, parameter in encoder.named_parameters():
        if "relative_attention_bias" in name:
            nn.init.normal_(parameter, std=0.5)
    return encoder.train()


def position_groups(encoder: Any, rate: float) -> list[Group]:
    """The encoder's parameters: the position biases learn faster."""
    biases: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in encoder.named_parameters():
        (biases if "relative_attention_bias" in name else others).append(parameter)
    return [Group(others, rate), Group(biases, rate * POSITION_RATE)]


def encode(encoder: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """States (n, tokens, width) of captions, zero behind their ends as in diffusers' pipeline."""
    states: Tensor = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    return states * mask[..., None]


def tokenize(tokenizer: Any, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens and mask, each int64 (n, 32).

    One at a time: the tokenizer's own threads do not survive a fork into worker processes.
    """
    tokens = torch.full((len(captions), TEXT_TOKENS), tokenizer.pad_token_id)
    for row, text in zip(tokens, captions, strict=True):
        ids = tokenizer.backend_tokenizer.encode(text).ids[:TEXT_TOKENS]
        row[: len(ids)] = torch.tensor(ids)
    return tokens, (tokens != tokenizer.pad_token_id).long()


def labels(scene: Scene) -> list[int]:
    """What a caption of the scene says, as an index into the words of each attribute."""
    first, other = scene.objects[0], scene.objects[1] if scene.relation else None
    words = (
        first.shape,
        first.colour,
        first.motion,
        first.size,
        scene.background,
        scene.camera,
        scene.relation or NOTHING,
        other.shape if other else NOTHING,
        other.colour if other else NOTHING,
    )
    return [known.index(word) for known, word in zip(ATTRIBUTES.values(), words, strict=True)]


@torch.no_grad()
def accuracy(task: TextTask, n: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """The share of attributes told right in held-out captions: (attributes,)."""
    rng = np.random.default_rng(seed)
    scenes = sample_scenes(rng, n, "test")
    tokens, mask = tokenize(task.tokenizer, [caption(scene, rng) for scene in scenes])
    device = task.head.queries.device
    found = torch.stack([x.argmax(1) for x in task.logits(tokens.to(device), mask.to(device))], 1)
    right = found.cpu() == torch.tensor([*map(labels, scenes)])
    return right.double().mean(0).numpy()
