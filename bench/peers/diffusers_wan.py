"""diffusers' own Wan modules with random weights: eager, and compiled by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from ...engine.manifest import DECODERS
from ..wan_layout import TEXT_TOKENS, Layout, Size, TextLayout, operations, text_operations
from .timing import joules, peak_memory_gb, seconds

PRECISION, DTYPE = "bf16", torch.bfloat16
"""In which all is measured."""
FIRST, NEXT = DECODERS


def make_denoiser(layout: Layout, device: str, dtype: torch.dtype) -> Any:
    """A transformer with random weights."""
    from diffusers import WanTransformer3DModel

    with torch.device(device):
        torch.manual_seed(0)
        denoiser = WanTransformer3DModel(
            num_attention_heads=layout.heads,
            attention_head_dim=layout.head_dim,
            num_layers=layout.layers,
            ffn_dim=layout.ffn_dim,
            text_dim=layout.text_dim,
        )
    return denoiser.to(dtype).eval().requires_grad_(False)


def make_text_encoder(layout: TextLayout, device: str, dtype: torch.dtype) -> Any:
    """A text encoder with random weights."""
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device(device):
        torch.manual_seed(0)
        encoder = UMT5EncoderModel(UMT5Config(**asdict(layout)))
    return encoder.to(dtype).eval().requires_grad_(False)


def make_vae(base: int, device: str, dtype: torch.dtype) -> Any:
    """Wan 2.1's autoencoder with random weights."""
    from diffusers import AutoencoderKLWan

    with torch.device(device):
        torch.manual_seed(0)
        model = AutoencoderKLWan(base_dim=base)
    return model.to(dtype).eval().requires_grad_(False)


@torch.no_grad()
def denoiser(device: str, layout: Layout, size: Size, *, compiled: bool) -> dict[str, Any]:
    """One forward pass at batch 1: what `_figures` says, and peak memory in GB."""
    model = make_denoiser(layout, device, DTYPE)
    feeds = {
        "hidden_states": torch.randn(1, 16, *size.latent, device=device, dtype=DTYPE),
        "timestep": torch.tensor([500.0], device=device),
        "encoder_hidden_states": torch.randn(
            1, TEXT_TOKENS, layout.text_dim, device=device, dtype=DTYPE
        ),
        "return_dict": False,
    }
    if compiled:
        model.compile()
    found = _figures(lambda: model(**feeds), operations(layout, size.tokens), device)
    return {
        "size": size.name,
        "tokens": size.tokens,
        **found,
        "peak_memory_gb": peak_memory_gb(device),
    }


@torch.no_grad()
def text_encoder(device: str, layout: TextLayout) -> dict[str, Any]:
    """One prompt of full length, a quarter of it padding; figures as of a denoiser."""
    model = make_text_encoder(layout, device, DTYPE)
    ids = torch.randint(3, 100, (1, TEXT_TOKENS), device=device)
    mask = torch.ones_like(ids)
    mask[:, TEXT_TOKENS * 3 // 4 :] = 0
    found = _figures(
        lambda: model(input_ids=ids, attention_mask=mask), text_operations(layout), device
    )
    return {"tokens": TEXT_TOKENS, **found, "peak_memory_gb": peak_memory_gb(device)}


@torch.no_grad()
def vae(device: str, size: Size, *, base: int = 96) -> dict[str, Any]:
    """Wan 2.1's decoder: the first latent frame, a whole clip, and of that a later latent frame."""
    model = make_vae(base, device, DTYPE)
    latents = torch.randn(1, 16, *size.latent, device=device, dtype=DTYPE)
    counts, later = vae_operations(size, base=base), size.latent[0] - 1

    def measured(latents: torch.Tensor, work: float) -> dict[str, Any]:
        decode = partial(model.decode, latents, return_dict=False)
        return _figures(decode, work, device, repetitions=3)

    first = measured(latents[:, :, :1], counts[FIRST])
    whole = measured(latents, counts[FIRST] + later * counts[NEXT])
    return {
        "size": size.name,
        FIRST: first,
        "clip": whole,
        "later_frame_seconds": (whole["seconds"] - first["seconds"]) / later,
        "peak_memory_gb": peak_memory_gb(device),
    }


def vae_operations(size: Size, *, base: int = 96) -> dict[str, int]:
    """Of the decoder, for the first latent frame of a clip and for a later one."""
    model, (_, *picture) = make_vae(base, "meta", torch.float32), size.latent
    first, both = (decoding_operations(model, (1, 16, frames, *picture)) for frames in (1, 2))
    return {FIRST: first, NEXT: both - first}


def decoding_operations(model: Any, shape: Sequence[int]) -> int:
    """Floating-point operations of decoding latents, counted on tensors without values.

    Args:
        model: on the device "meta".
        shape: of the latents.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.decode(torch.empty(tuple(shape), device="meta"), return_dict=False)
    return int(counter.get_total_flops())


def _figures(
    work: Callable[[], object], operations: float, device: str, repetitions: int = 10
) -> dict[str, Any]:
    """Seconds, 10^12 operations a second, and joules."""
    spent = seconds(work, device, repetitions)
    return {
        "precision": PRECISION,
        "seconds": spent,
        "tflop_s": operations / spent / 1e12,
        "joules": joules(work, device),
    }
