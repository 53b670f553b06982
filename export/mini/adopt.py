"""A finished checkpoint as the beginning of a workplace, so that its siblings can be trained."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from ...errors import UserError
from .workplace import Workplace

PARTS = {"vae": ("vae",), "dit": ("transformer", "text_encoder", "tokenizer")}
"""What each stage left of a checkpoint's folders."""


def adopt(workplace: Workplace, checkpoint: Path) -> None:
    """Take a checkpoint's models for those of the finished stages; the first call decides.

    Raises:
        UserError: the checkpoint is not one, or the workplace has begun models of its own.
    """
    for name in (part for parts in PARTS.values() for part in parts):
        if not (checkpoint / name).is_dir():
            raise UserError(f"--from {checkpoint}: it has no folder {name}, so it is no checkpoint")
    for stage in PARTS:
        if workplace.finished(stage):
            continue
        if workplace.stage(stage).joinpath("state.safetensors").exists():
            raise UserError(
                f"{workplace.path} has a {stage!r} stage of its own under way; "
                "choose another folder with --out, or leave --from out"
            )
        workplace.finish(stage, partial(_copy, checkpoint, stage))


def _copy(checkpoint: Path, stage: str, folder: Path) -> None:
    names = PARTS[stage]
    for name in names:
        target = folder if len(names) == 1 else folder / name
        shutil.copytree(checkpoint / name, target, dirs_exist_ok=True)
