"""A checkpoint folder with random weights in Wan's layout, to export where none can be fetched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from ..wan_layout import Layout
from .diffusers_wan import make_denoiser


def write(folder: Path, pattern: Path, layout: Layout, device: str) -> None:
    """Write a checkpoint whose denoiser alone can be exported: other weights are of other sizes.

    Args:
        folder: to write to; must not be there.
        pattern: the checkpoint that everything but the denoiser is copied from.
        layout: of the denoiser.
        device: where its weights are drawn.
    """
    shutil.copytree(pattern, folder, ignore=shutil.ignore_patterns("transformer"))
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text()) | {"d_model": layout.text_dim}
    path.write_text(json.dumps(config))
    make_denoiser(layout, device, torch.float16).save_pretrained(folder / "transformer")
