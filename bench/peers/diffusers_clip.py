"""Whole clips of diffusers' `WanPipeline`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .timing import device_memory_gb, joules, peak_memory_gb, wall_seconds

Frames = NDArray[np.uint8]


def opened(
    checkpoint: Path,
    request: dict[str, Any],
    device: str,
    *,
    tokens: int,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
) -> Callable[[], Frames]:
    """What makes a clip each time it is called: uint8 (frames, height, width, 3).

    Args:
        checkpoint: in diffusers' format.
        request: fields of `Request`, its latents among them; the scheduler is the checkpoint's.
        device: "cuda" or "cpu".
        tokens: that every prompt is padded or cut to.
        dtype: of the weights; by default the checkpoint's.
        compiled: the transformer goes through `torch.compile`.
    """
    from diffusers import WanPipeline

    cast: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    pipe: Any = WanPipeline.from_pretrained(checkpoint, **cast).to(device)
    pipe.set_progress_bar_config(disable=True)
    if compiled:
        pipe.transformer.compile()

    def make() -> Frames:
        made = pipe(
            request["prompt"],
            negative_prompt=request["negative_prompt"],
            width=request["width"],
            height=request["height"],
            num_frames=request["frames"],
            num_inference_steps=request["steps"],
            guidance_scale=request["guidance_scale"],
            latents=torch.from_numpy(request["latents"]).to(device),
            max_sequence_length=tokens,
            output_type="np",
        )
        pictures: Frames = np.round(made.frames[0] * 255).astype(np.uint8)
        return pictures

    return make


def clip(
    checkpoint: Path, request: dict[str, Any], device: str, *, tokens: int
) -> tuple[Frames, dict[str, Any]]:
    """The frames of a request, and what making them took; see `opened`.

    Returns:
        uint8 (frames, height, width, 3); then seconds (median of three clips, after one), joules of
        one, and GB (2^30 bytes) of device memory: what is taken at the end, and the most that
        tensors held.
    """
    make = opened(checkpoint, request, device, tokens=tokens)
    frames: list[Frames] = []

    def keep() -> None:
        frames[:] = [make()]

    spent = wall_seconds(keep, device, repetitions=3)
    return frames[0], {
        "seconds": spent,
        "joules": joules(make, device),
        "memory_in_use_gb": device_memory_gb(device),
        "peak_tensors_gb": peak_memory_gb(device),
    }
