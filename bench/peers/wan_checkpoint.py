"""Checkpoint folders with random weights in Wan's layout, to export where none can be fetched.

One model of each is of Wan's own width; the others are only there because a checkpoint has them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..wan_layout import TINY, Layout, TextLayout
from .diffusers_wan import make_denoiser, make_text_encoder, make_vae


def copy_but(folder: Path, pattern: Path, *models: str) -> None:
    """Copy a checkpoint without some models, as one that makes clips from text alone.

    Args:
        folder: to copy to; must not be there.
        pattern: the checkpoint.
        models: what is left out.
    """
    shutil.copytree(pattern, folder, ignore=shutil.ignore_patterns(*models))
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | {"expand_timesteps": False}
    path.write_text(json.dumps(index))


def write(folder: Path, pattern: Path, layout: Layout) -> None:
    """Write a checkpoint whose denoiser alone can be exported: other weights are of other sizes.

    Args:
        folder: to write to; must not be there.
        pattern: the checkpoint that everything but the denoiser is copied from.
        layout: of the denoiser.
    """
    copy_but(folder, pattern, "transformer")
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text()) | {"d_model": layout.text_dim}
    path.write_text(json.dumps(config))
    make_denoiser(layout, "cpu", torch.float16).save_pretrained(folder / "transformer")


def write_text(folder: Path, pattern: Path, layout: TextLayout) -> None:
    """Write a checkpoint with a text encoder of that layout, and a tiny denoiser that fits it."""
    copy_but(folder, pattern, "transformer", "text_encoder")
    _save_text(folder, layout)
    denoiser = make_denoiser(replace(TINY, text_dim=layout.d_model), "cpu", torch.float16)
    denoiser.save_pretrained(folder / "transformer")


def write_vae(folder: Path, pattern: Path, *, base: int = 96) -> None:
    """Write a checkpoint with Wan 2.1's VAE; `base` is the width it is a multiple of."""
    copy_but(folder, pattern, "vae")
    _save_vae(folder, base)


def write_whole(
    folder: Path, pattern: Path, layout: Layout, text: TextLayout, *, base: int
) -> None:
    """Write a checkpoint all of whose models are of the given sizes, in fp16.

    Args:
        folder: to write to; must not be there.
        pattern: the checkpoint that tokenizer and scheduler are copied from.
        layout: of the denoiser; its weights are those of `make_denoiser`.
        text: of the text encoder.
        base: of the VAE.
    """
    copy_but(folder, pattern, "transformer", "text_encoder", "vae")
    make_denoiser(layout, "cpu", torch.float16).save_pretrained(folder / "transformer")
    _save_text(folder, text)
    _save_vae(folder, base)


def _save_text(folder: Path, layout: TextLayout) -> None:
    make_text_encoder(layout, "cpu", torch.float16).save_pretrained(folder / "text_encoder")


def _save_vae(folder: Path, base: int) -> None:
    make_vae(base, "cpu", torch.float16).save_pretrained(folder / "vae")


def export(checkpoint: Path, bundle: Path, graphs: Sequence[str], precision: str) -> None:
    """Export some graphs, in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-P", "-m", "mutoscope", "export", "--precision", precision]
    command += ["--graphs", ",".join(graphs), str(checkpoint), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
