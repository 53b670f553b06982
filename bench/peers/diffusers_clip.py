"""Whole clips of diffusers' `WanPipeline`, eager, in the precision of the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .timing import device_memory_gb, peak_memory_gb, wall_seconds


def clip(
    checkpoint: Path, request: dict[str, Any], device: str
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The frames of a request, and what making them took.

    Args:
        checkpoint: in diffusers' format.
        request: fields of `Request`, its latents among them; the scheduler is the checkpoint's.
        device: "cuda" or "cpu".

    Returns:
        uint8 (frames, height, width, 3); then seconds (median of three clips, after one), and GB
        (2^30 bytes) of device memory: what is taken at the end, and the most that tensors held.
    """
    from diffusers import WanPipeline

    pipe: Any = WanPipeline.from_pretrained(checkpoint).to(device)
    pipe.set_progress_bar_config(disable=True)
    frames: list[Any] = []

    def make() -> None:
        made = pipe(
            request["prompt"],
            negative_prompt=request["negative_prompt"],
            width=request["width"],
            height=request["height"],
            num_frames=request["frames"],
            num_inference_steps=request["steps"],
            guidance_scale=request["guidance_scale"],
            latents=torch.from_numpy(request["latents"]).to(device),
            output_type="np",
        )
        frames[:] = [made.frames[0]]

    spent = wall_seconds(make, device, repetitions=3)
    pictures: NDArray[np.uint8] = np.round(frames[0] * 255).astype(np.uint8)
    return pictures, {
        "seconds": spent,
        "memory_in_use_gb": device_memory_gb(device),
        "peak_tensors_gb": peak_memory_gb(device),
    }
