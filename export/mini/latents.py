"""The stage between autoencoder and denoiser: many clips encoded once, and their statistics."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...bench.adherence.scene import Object, Scene
from ...engine.folders import write_whole
from ...errors import UserError
from .clips import as_video, draw, foreground, latent_foreground, proportionate
from .journal import Journal
from .recipe import SPATIAL, Budget, ClipShape
from .state import Clock
from .whole import decode_whole, encode_whole
from .workplace import Workplace, read_json

STAGE = "latents"
SHARDS = "shards"
STATISTICS = "statistics.json"
SUFFIX = ".safetensors"
CACHED = 4 * 17
"""So many frames at a time fit a CPU's caches: six times as fast as 32 clips (docs/lab.md)."""
MEASURED = 4
"""How many clips tell a channel's importance."""
DISTURBANCE = 0.3
LEAST = 0.2


@dataclass(frozen=True)
class Shards(Dataset[Any]):
    """The clips of each shard by its number: a function of seed and number.

    Attributes:
        shapes: take turns by their shares, the first one first.
        clips: how many clips of the first shape a shard has; of others in proportion.
        seed: of the scenes.
    """

    shapes: tuple[ClipShape, ...]
    clips: int
    seed: int

    def __getitem__(self, number: int) -> Any:
        shape = self.shape(number)
        rng = np.random.default_rng((self.seed, number))
        clips, scenes = draw(rng, proportionate(self.clips, shape, self.shapes[0]), shape)
        return torch.from_numpy(clips), scenes

    def shape(self, number: int) -> ClipShape:
        """The shape whose share is furthest behind when the shards before are counted."""
        counts = np.zeros(len(self.shapes))
        shares = np.array([shape.share for shape in self.shapes])
        shares = shares / shares.sum()
        for i in range(number + 1):
            chosen = int(np.argmax(shares * (i + 1) - counts))
            counts[chosen] += 1
        return self.shapes[chosen]

    def name(self, number: int) -> str:
        """A shard's file."""
        return f"{number:06d}-{self.shape(number).name}{SUFFIX}"


@dataclass(frozen=True)
class Statistics:
    """Of the latents, by channel.

    Attributes:
        mean: of all latents.
        std: their standard deviation.
        importance: how far pixels move when the normalised channel does, squared; 1 on average
            but for what is raised to the least.
    """

    mean: list[float]
    std: list[float]
    importance: list[float]


@dataclass(frozen=True)
class Latents:
    """All encoded clips of one shape.

    Attributes:
        shape: of the clips.
        values: float16 (n, channels, frames, height, width), normalised.
        mask: bool (n, 1, frames, height, width), where objects are.
        scenes: n of them.
    """

    shape: ClipShape
    values: Tensor
    mask: Tensor
    scenes: Sequence[Scene]


@torch.no_grad()
def encode_clips(vae: Any, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Clips uint8 (n, frames, height, width, 3) → latent means and foreground."""
    device = clips.device.type
    pieces = torch.split(clips, max(1, CACHED // clips.shape[1])) if device == "cpu" else (clips,)
    with torch.autocast(device, torch.bfloat16):
        means = torch.cat([encode_whole(vae, as_video(piece))[0] for piece in pieces])
    return means, latent_foreground(foreground(clips), SPATIAL)


def encode_shards(vae: Any, shards: Shards, folder: Path, budget: Budget, workers: int) -> None:
    """Encode shard after shard into `folder/shards`, from where an earlier run stopped."""
    target = folder / SHARDS
    target.mkdir(exist_ok=True)
    clock = _clock(target)
    journal = Journal(STAGE, folder, clock.step)
    began = time.monotonic() - clock.seconds
    sampler = range(clock.step, 1 << 40)
    loader = iter(DataLoader(shards, batch_size=None, sampler=sampler, num_workers=workers))
    while (progress := budget.progress(clock.step, clock.seconds)) < 1:
        journal.tell(clock, progress)
        clips, scenes = next(loader)
        means, mask = encode_clips(vae, clips.to(vae.device))
        clock.seconds = time.monotonic() - began
        _write(target / shards.name(clock.step), means, mask, scenes, clock.seconds)
        clock.step += 1
    journal.tell(clock, progress, now=True)


def _write(
    path: Path, means: Tensor, mask: Tensor, scenes: Sequence[Scene], seconds: float
) -> None:
    tensors = {"means": means.half().cpu().contiguous(), "mask": mask.bool().cpu().contiguous()}
    told = {
        "scenes": json.dumps([asdict(scene) for scene in scenes]),
        "seconds": json.dumps(seconds),
    }
    write_whole(path, save(tensors, metadata=told))


def write_statistics(vae: Any, shards: Path, folder: Path) -> None:
    """Write what latents are like; an autoencoder's own mean and deviation, where it has them."""
    mean, std = _own(vae) or _measure(shards)
    means = [_read(path)[0] for path in shard_files(shards)[:1]]
    importance = _importance(vae, std, means[0]) if means else [1.0] * len(std)
    found = Statistics(mean, std, importance)
    write_whole(folder / STATISTICS, json.dumps(asdict(found)).encode())


def _own(vae: Any) -> tuple[list[float], list[float]] | None:
    """What a finished checkpoint's autoencoder says of its latents; a fresh one says nothing."""
    mean, std = list(vae.config.latents_mean), list(vae.config.latents_std)
    return (mean, std) if any(mean) or any(value != 1 for value in std) else None


@torch.no_grad()
def _importance(vae: Any, std: Sequence[float], means: Tensor) -> list[float]:
    clean = means[:MEASURED].float().to(vae.device)
    noise = torch.randn(clean[:, 0].shape, generator=torch.Generator().manual_seed(0))
    with torch.autocast(vae.device.type, torch.bfloat16):
        pixels = decode_whole(vae, clean)
        moved = []
        for channel, deviation in enumerate(std):
            disturbed = clean.clone()
            disturbed[:, channel] += DISTURBANCE * deviation * noise.to(clean.device)
            moved.append(((decode_whole(vae, disturbed) - pixels) ** 2).mean().item())
    shares = np.array(moved) / np.mean(moved)
    return [float(share) for share in shares.clip(min=LEAST).round(4)]


def _measure(shards: Path) -> tuple[list[float], list[float]]:
    count, total, squares = 0, 0.0, 0.0
    for path in shard_files(shards):
        means = _read(path)[0].numpy().astype(np.float64)
        count += means.size // means.shape[1]
        total = total + means.sum((0, 2, 3, 4))
        squares = squares + (means**2).sum((0, 2, 3, 4))
    mean = np.asarray(total) / count
    std = np.sqrt(np.asarray(squares) / count - mean**2)
    return mean.round(5).tolist(), std.round(5).tolist()


def read_statistics(folder: Path) -> Statistics:
    """What `write_statistics` measured.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / STATISTICS
    figures = read_json(path)
    try:
        return Statistics(**figures)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(
            f"{path} cannot be read ({error}); remove {folder} and train latents again"
        ) from None


def normalised(means: Tensor, vae: Any) -> Tensor:
    """Latent means (n, channels, frames, height, width) as denoisers see them.

    By the mean and deviation that the autoencoder says its latents have.
    """
    statistics = vae.config.latents_mean, vae.config.latents_std
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1).to(means) for v in statistics)
    return (means - mean) / std


def read_latents(workplace: Workplace, shapes: Sequence[ClipShape], device: str) -> list[Latents]:
    """All shards of a finished stage, by shape, normalised."""
    statistics = read_statistics(workplace.product(STAGE))
    shards = workplace.stage(STAGE) / SHARDS
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (statistics.mean, statistics.std))
    found = []
    for shape in shapes:
        files = [p for p in shard_files(shards) if p.stem.endswith(f"-{shape.name}")]
        if not files:
            continue
        means, masks, scenes = zip(*map(_read, files), strict=True)
        values = torch.cat([((m.float() - mean) / std).half() for m in means])
        everything = [scene for part in scenes for scene in part]
        found.append(Latents(shape, values.to(device), torch.cat(masks).to(device), everything))
    return found


def shard_files(folder: Path) -> list[Path]:
    """The shards that are there, in order."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def _read(path: Path) -> tuple[Tensor, Tensor, list[Scene]]:
    try:
        with safe_open(path, "pt") as file:
            scenes = [_scene(found) for found in json.loads(file.metadata()["scenes"])]
            return file.get_tensor("means"), file.get_tensor("mask"), scenes
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({error}); remove {path.parents[1]} and train latents again"
        ) from None


def _clock(folder: Path) -> Clock:
    """After the last shard that is there: how many there are, and how long they took."""
    files = shard_files(folder)
    if not files:
        return Clock()
    with safe_open(files[-1], "pt") as file:
        seconds = float(file.metadata()["seconds"])
    return Clock(int(files[-1].name.partition("-")[0]) + 1, seconds)


def _scene(found: dict[str, Any]) -> Scene:
    objects = tuple(Object(**item) for item in found.pop("objects"))
    return Scene(objects, **found)
