"""Clips from a pipeline, for sheets and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .recipe import ClipShape

SHIFT = 3.0
GUIDANCE = 4.0
PROMPTS = (
    "a red circle moves left to right",
    "a blue square spins on a gray background",
    "a green star grows on a white background",
    "a yellow triangle bounces over the sea",
    "a purple heart moves in a circle on a navy background",
    "a cyan fish moves right to left over the sea",
    "a red balloon moves up over the ground under a blue sky",
    "an orange circle above a blue square on a gradient background",
)


def pipeline(
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    denoiser: Any,
    *,
    terminal: float | None = None,
) -> Any:
    """A `WanPipeline` of these modules; with `terminal` its sigmas are stretched to end there."""
    from diffusers import WanPipeline

    return _quiet(
        WanPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            scheduler=scheduler(terminal),
            transformer=denoiser,
            expand_timesteps=True,
        )
    )


def image_pipeline(pipe: Any) -> Any:
    """A `WanImageToVideoPipeline` of a `WanPipeline`'s modules."""
    from diffusers import WanImageToVideoPipeline

    names = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
    parts = {name: getattr(pipe, name) for name in names}
    return _quiet(WanImageToVideoPipeline(**parts, expand_timesteps=True))


def scheduler(terminal: float | None = None) -> Any:
    """The scheduler that all of the models are published with."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=SHIFT, shift_terminal=terminal)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(
    pipe: Any,
    prompts: Sequence[str],
    shape: ClipShape,
    *,
    steps: int,
    guidance: float = GUIDANCE,
    seed: int = 0,
    batch: int = 8,
    **given: Any,
) -> NDArray[np.uint8]:
    """Clips (n, frames, height, width, 3); each one's noise follows from the seed and its place.

    Other keywords go to the pipeline.
    """
    made = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        places = range(start, start + len(part))
        video = pipe(
            prompt=part,
            negative_prompt=[""] * len(part),
            height=shape.height,
            width=shape.width,
            num_frames=shape.frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed * 100_003 + i) for i in places],
            output_type="np",
            **given,
        ).frames
        made.append((video.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return np.concatenate(made)
