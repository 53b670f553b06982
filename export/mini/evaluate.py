"""How good a trained checkpoint is: what its clips show, and how true its autoencoder is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...bench.adherence import Adherence, Scene, aggregate, describe, score
from ...bench.adherence.scene import PHRASES
from ...engine.folders import write_whole
from ...errors import UserError
from .recipe import ClipShape
from .samples import image_pipeline, sample, scheduler
from .scenes import sample_scenes
from .sheets import sheet, write_png
from .vae import psnr, reconstruct
from .world import render

Clips = NDArray[np.uint8]

SEED = 2024
SHOWN = 16
BATCH = 16
COLUMNS = (
    "shape",
    "colour",
    "motion",
    "background",
    "size",
    "objects",
    "relation",
    "camera",
)


@dataclass(frozen=True)
class Sampling:
    """How clips are made.

    Attributes:
        prompts: how many.
        shape: of which form.
        steps: of the scheduler.
        guidance: its scale.
        terminal: the last sigma before 0, if sigmas are stretched.
        images: how many are made from a first frame too.
    """

    prompts: int
    shape: ClipShape
    steps: int = 30
    guidance: float = 4.0
    terminal: float | None = None
    images: int = 32


@dataclass(frozen=True)
class Row:
    """One line of the table: clips of the same scenes, made in one way.

    PSNR is that of the first frame where it was given, else of the whole clip, to the drawn ones.
    """

    name: str
    adherence: Adherence
    psnr: float | None = None


def evaluate(
    checkpoint: Path, target: Path, sampling: Sampling, device: str, lora: Path | None = None
) -> str:
    """Measure a diffusers folder, or a LoRA for it, on held-out scenes; the table, as markdown.

    Compares clips as the world draws them, what the autoencoder makes of them, what the model
    makes of the scenes' plainest captions, and of first frames and what is to happen. Writes
    evaluation.md, .json and .png into `target`.

    Raises:
        UserError: there is no checkpoint, or no such LoRA.
    """
    pipe = _load(checkpoint, device, lora)
    pipe.scheduler = scheduler(sampling.terminal)
    shape = sampling.shape
    scenes = sample_scenes(np.random.default_rng(SEED), sampling.prompts, "test")
    drawn = np.stack(
        [
            render(scene, i, shape.width, shape.height, shape.frames)
            for i, scene in enumerate(scenes)
        ]
    )
    rebuilt = reconstruct(pipe.vae, drawn)
    made = sample(
        pipe,
        [describe(scene) for scene in scenes],
        shape,
        steps=sampling.steps,
        guidance=sampling.guidance,
        batch=BATCH,
    )
    rows = [
        Row("ground truth", _adherence(drawn, scenes)),
        Row("autoencoder", _adherence(rebuilt, scenes), float(psnr(drawn, rebuilt).mean())),
        Row(f"{sampling.steps} steps", _adherence(made, scenes)),
        _continued(pipe, drawn, scenes, sampling),
    ]
    table = markdown(rows)
    write_whole(target / "evaluation.md", f"{table}\n".encode())
    records = {"sampling": asdict(sampling), "rows": [asdict(row) for row in rows]}
    write_whole(target / "evaluation.json", json.dumps(records, indent=1).encode())
    picture = sheet([*zip(drawn[:SHOWN], made[:SHOWN], strict=True)])
    write_png(target / "evaluation.png", picture)
    return table


def _continued(pipe: Any, drawn: Clips, scenes: Sequence[Scene], sampling: Sampling) -> Row:
    """The row of clips whose first frame is given; the prompt says only what happens."""
    images = image_pipeline(pipe)
    n = min(sampling.images, len(drawn))
    firsts = torch.from_numpy(drawn[:n, :1]).permute(0, 1, 4, 2, 3).float() / 255
    made = np.concatenate(
        [
            sample(
                images,
                [f"it {PHRASES[scene.objects[0].motion] or 'stays still'}"],
                sampling.shape,
                steps=sampling.steps,
                guidance=sampling.guidance,
                image=first,
            )
            for first, scene in zip(firsts, scenes, strict=False)
        ]
    )
    kept = float(psnr(drawn[:n, :1], made[:, :1]).mean())
    return Row(f"{n} from a first frame", _adherence(made, scenes[:n]), kept)


def markdown(rows: Sequence[Row]) -> str:
    """A table of shares in percent; drift of colour in 255ths, of area in percent."""
    heads = ("", *COLUMNS, "everything", "colour drift", "area drift", "PSNR")
    lines = [heads, ("---",) * len(heads), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    found = row.adherence
    tallies = [found.tallies.get(column) for column in COLUMNS]
    shares = [f"{100 * tally.fraction:.1f}" if tally else "–" for tally in tallies]
    return (
        row.name,
        *shares,
        f"{100 * found.clips.fraction:.1f}",
        f"{found.colour_drift:.1f}",
        f"{100 * found.area_drift:.1f}",
        "–" if row.psnr is None else f"{row.psnr:.1f} dB",
    )


def _adherence(clips: Clips, scenes: Sequence[Scene]) -> Adherence:
    return aggregate(score(clip, scene) for clip, scene in zip(clips, scenes, strict=True))


def _load(checkpoint: Path, device: str, lora: Path | None) -> Any:
    from diffusers import WanPipeline

    if not (checkpoint / "model_index.json").is_file():
        raise UserError(
            f"{checkpoint} has no model_index.json: it is not a checkpoint; "
            "train one with: python -m mutoscope.export.mini train all --out FOLDER"
        )
    if lora is not None and not lora.is_file():
        raise UserError(f"there is no file {lora}")
    pipe = WanPipeline.from_pretrained(checkpoint)
    if lora is not None:
        pipe.load_lora_weights(lora)
    pipe.text_encoder.float()  # transformers keeps the file's precision, diffusers does not
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe
