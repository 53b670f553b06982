"""diffusers' and transformers' own modules of a checkpoint on the CPU, in any precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ..gpu_loop import embedded_tokens
from . import diffusers_clip
from .contest import Array, Opened
from .diffusers_wan import decoding_operations

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Feeds = Mapping[str, NDArray[Any]]


def denoiser(checkpoint: Path, feeds: Feeds, precision: str, *, compiled: bool) -> Opened:
    """One prediction; feeds as our denoiser takes them: a timestep a clip, or one a frame."""
    from diffusers import WanTransformer3DModel

    model: Any = WanTransformer3DModel.from_pretrained(
        checkpoint / "transformer", dtype=DTYPES[precision]
    )
    given = {name: torch.from_numpy(array) for name, array in feeds.items()}
    for name in ("hidden_states", "encoder_hidden_states"):
        given[name] = given[name].to(DTYPES[precision])
    if given["timestep"].ndim > 1:  # diffusers' pipelines give one for each token
        _, *patch = model.config.patch_size
        tokens = given["hidden_states"][0, 0, 0].numel() // math.prod(patch)
        given["timestep"] = given["timestep"].repeat_interleave(tokens, dim=1)
    if compiled:
        model.compile()
    return _opened(lambda: model(**given, return_dict=False)[0])


def text_encoder(checkpoint: Path, feeds: Feeds, precision: str, *, compiled: bool) -> Opened:
    """The embedding of prompts; feeds as our encoder takes them."""
    from transformers import UMT5EncoderModel

    model: Any = UMT5EncoderModel.from_pretrained(
        checkpoint / "text_encoder", dtype=DTYPES[precision]
    ).eval()
    given = {name: torch.from_numpy(array) for name, array in feeds.items()}
    if compiled:
        model.compile()
    return _opened(lambda: model(**given).last_hidden_state)


def vae_decoder(checkpoint: Path, latents: Array, precision: str) -> Opened:
    """Latents (1, channels, latent frames, height, width) → frames in [-1, 1]."""
    from diffusers import AutoencoderKLWan

    model: Any = AutoencoderKLWan.from_pretrained(checkpoint / "vae", dtype=DTYPES[precision])
    given = torch.from_numpy(latents).to(DTYPES[precision])
    return _opened(lambda: model.decode(given, return_dict=False)[0])


def vae_operations(checkpoint: Path, latents: Array) -> int:
    """Floating-point operations of a decoding."""
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        model: Any = AutoencoderKLWan.from_config(AutoencoderKLWan.load_config(checkpoint / "vae"))
    return decoding_operations(model, latents.shape)


def clip(checkpoint: Path, request: dict[str, Any], precision: str, *, compiled: bool) -> Opened:
    """A prompt of the embedded model's → uint8 frames, by diffusers' pipeline."""
    make = diffusers_clip.opened(
        checkpoint,
        request,
        "cpu",
        tokens=embedded_tokens(),
        dtype=DTYPES[precision],
        compiled=compiled,
    )
    return Opened(make)


def _opened(work: Callable[[], torch.Tensor]) -> Opened:
    @torch.no_grad()
    def run() -> Array:
        array: Array = work().float().numpy()
        return array

    return Opened(run)
