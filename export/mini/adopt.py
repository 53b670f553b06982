"""A checkpoint as the beginning of a workplace: what it has need not be trained again."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from ...errors import UserError
from .workplace import Workplace

PARTS = {
    "vae": ("vae",),
    "decoder": ("vae",),
    "text": ("text_encoder", "tokenizer"),
    "dit": ("transformer", "text_encoder", "tokenizer"),
}
"""What each stage leaves of a checkpoint's folders."""

TAKEN = {
    "vae": (),
    "decoder": ("vae", "dit"),
    "all": ("vae", "text", "decoder"),
    "judge": ("vae", "dit"),
    "distill": ("vae", "dit"),
    "lora": ("vae", "dit"),
}
"""The stages that are finished by a checkpoint, before which one is to run."""

NEEDED = {"vae": ("vae",), "decoder": ("vae",), "all": ("vae",)}
"""Folders that the checkpoint has to have; of siblings all."""


def adopt(workplace: Workplace, checkpoint: Path, stage: str) -> None:
    """Take a checkpoint's models for those of finished stages, as far as it has them.

    Args:
        workplace: where they go; what is finished there stays.
        checkpoint: a diffusers folder, or a part of one.
        stage: "vae", "decoder", "all", "judge", "distill" or "lora": what is to be trained.

    Raises:
        UserError: the checkpoint lacks what the stage needs, or the workplace has begun models of
            its own.
    """
    for name in NEEDED.get(stage, ("vae", *PARTS["dit"])):
        if not (checkpoint / name).is_dir():
            raise UserError(f"--from {checkpoint}: it has no folder {name}, which {stage} needs")
    for taken in TAKEN[stage]:
        whole = all((checkpoint / name).is_dir() for name in PARTS[taken])
        if workplace.finished(taken) or not whole:
            continue
        if workplace.stage(taken).joinpath("state.safetensors").exists():
            raise UserError(
                f"{workplace.path} has a {taken!r} stage of its own under way; "
                "choose another folder with --out, or leave --from out"
            )
        workplace.finish(taken, partial(_copy, checkpoint, taken))


def _copy(checkpoint: Path, stage: str, folder: Path) -> None:
    names = PARTS[stage]
    for name in names:
        target = folder if len(names) == 1 else folder / name
        shutil.copytree(checkpoint / name, target, dirs_exist_ok=True)
