"""Training clips, drawn as they are needed: each batch is a function of the seed and its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from ...bench.adherence.scene import Scene
from .recipe import TEMPORAL, ClipShape
from .scenes import Split, emphasised
from .training import Batch
from .world import render

Frames = NDArray[np.uint8]

OBJECT_CHROMA = 110
"""Every colour of an object spreads its channels further than this, no background's does."""

CROPS_PER_CLIP = 6
EDGE = 1


@dataclass(frozen=True)
class WholeClips(Dataset[Batch]):
    """Batches of clips of one shape each: "clips" uint8 (n, frames, height, width, 3).

    Attributes:
        shapes: drawn by their shares.
        batch: how many clips of the first shape; of others so many that the pixels are about equal.
        seed: of the scenes.
        emphasis: how much oftener scenes are drawn that have these words.
    """

    shapes: tuple[ClipShape, ...]
    batch: int
    seed: int
    emphasis: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        shares = np.array([shape.share for shape in self.shapes])
        shape = self.shapes[rng.choice(len(shares), p=shares / shares.sum())]
        n = proportionate(self.batch, shape, self.shapes[0])
        return {"clips": torch.from_numpy(draw(rng, n, shape, emphasis=self.emphasis)[0])}


@dataclass(frozen=True)
class Crops(Dataset[Batch]):
    """Batches of crops, most of them about an object: "clips" uint8 (n, frames, size, size, 3).

    Attributes:
        shapes: of the clips that crops are taken from, drawn by their shares.
        batch: how many crops; six come from each clip.
        size: a crop's side.
        frames: a crop's length.
        seed: of scenes and crops.
    """

    shapes: tuple[ClipShape, ...]
    batch: int
    size: int
    frames: int
    seed: int

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        fitting = [shape for shape in self.shapes if self._fits(shape)]
        shape = fitting[rng.integers(len(fitting))] if rng.random() < 0.5 else fitting[0]
        clips, _ = draw(rng, -(-self.batch // CROPS_PER_CLIP), shape)
        crops = [self._crop(rng, clips[i // CROPS_PER_CLIP]) for i in range(self.batch)]
        return {"clips": torch.from_numpy(np.stack(crops))}

    def _fits(self, shape: ClipShape) -> bool:
        return min(shape.width, shape.height) >= self.size and shape.frames >= self.frames

    def _crop(self, rng: np.random.Generator, clip: Frames) -> Frames:
        frames, height, width = clip.shape[:3]
        start = rng.integers(frames - self.frames + 1)
        y, x = rng.integers(height), rng.integers(width)
        coloured = np.argwhere(_chroma(clip[start + self.frames // 2]) > OBJECT_CHROMA)
        if len(coloured) and rng.random() < 0.8:
            y, x = coloured[rng.integers(len(coloured))] + rng.integers(-8, 9, 2)
        top = np.clip(y - self.size // 2, 0, height - self.size)
        left = np.clip(x - self.size // 2, 0, width - self.size)
        crop = clip[start:, top:, left:][: self.frames, : self.size, : self.size]
        return np.ascontiguousarray(crop)


def draw(
    rng: np.random.Generator,
    n: int,
    shape: ClipShape,
    split: Split = "train",
    *,
    outlined: bool = False,
    melted: tuple[float, float] = (0.0, 0.0),
    emphasis: Mapping[str, float] | None = None,
) -> tuple[Frames, list[Scene]]:
    """Clips (n, frames, height, width, 3), and the scenes they show.

    Each clip's shapes have melted by an amount between those two. Scenes with some words are drawn
    as much oftener as `emphasis` says.
    """
    scenes = emphasised(rng, n, split, emphasis or {})
    size = shape.width, shape.height, shape.frames
    clips = []
    for scene in scenes:
        amount = rng.uniform(*melted) if any(melted) else 0.0
        clips.append(render(scene, rng, *size, outlined=outlined, melted=amount))
    return np.stack(clips), scenes


def proportionate(batch: int, shape: ClipShape, default: ClipShape) -> int:
    """How many items of a shape are as much work as `batch` of the default one."""
    return max(1, round(batch * default.tokens / shape.tokens))


def as_video(clips: Tensor) -> Tensor:
    """uint8 (n, frames, height, width, 3) → float32 (n, 3, frames, height, width) in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def as_clips(video: Tensor) -> Frames:
    """The way back, as an array."""
    pixels = (video.float().clamp(-1, 1) * 127.5 + 127.5).round().byte()
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 4, 1).cpu().numpy())


def foreground(clips: Tensor) -> Tensor:
    """Where objects are, their edges included: float32 (n, 1, frames, height, width), 0 or 1.

    Told by colour: the world's objects are colourful, its backgrounds are not.
    """
    colourful = (clips.amax(-1) - clips.amin(-1)) > OBJECT_CHROMA
    side = 2 * EDGE + 1
    return functional.max_pool3d(
        colourful[:, None].float(), (1, side, side), stride=1, padding=(0, EDGE, EDGE)
    )


def latent_foreground(mask: Tensor, spatial: int) -> Tensor:
    """A foreground by latents: a latent is part of it where any of its pixels is."""
    first = functional.max_pool3d(mask[:, :, :1], (1, spatial, spatial))
    if mask.shape[2] == 1:
        return first
    later = functional.max_pool3d(mask[:, :, 1:], (TEMPORAL, spatial, spatial))
    return torch.cat([first, later], 2)


def _chroma(image: Frames) -> NDArray[np.int_]:
    return np.asarray(image.max(-1).astype(int) - image.min(-1))


def held_out_clips(n: int, shape: ClipShape, seed: int = 0) -> tuple[Frames, Sequence[Scene]]:
    """Clips of scenes that no training sees; the same for the same `n` and `seed`."""
    return draw(np.random.default_rng((seed, n)), n, shape, "test")
