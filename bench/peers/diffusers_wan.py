"""diffusers' own Wan modules with random weights: eager, and compiled by PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from ..wan_layout import TEXT_TOKENS, Layout, Size, operations
from .timing import peak_memory_gb, seconds


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


@torch.no_grad()
def denoiser(
    device: str, layout: Layout, size: Size, *, compiled: bool, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Any]:
    """One forward pass at batch 1: seconds, TFLOP/s, and peak memory in GB."""
    model = make_denoiser(layout, device, dtype)
    feeds = {
        "hidden_states": torch.randn(1, 16, *size.latent, device=device, dtype=dtype),
        "timestep": torch.tensor([500.0], device=device),
        "encoder_hidden_states": torch.randn(
            1, TEXT_TOKENS, layout.text_dim, device=device, dtype=dtype
        ),
        "return_dict": False,
    }
    if compiled:
        model.compile()
    spent = seconds(lambda: model(**feeds), device)
    work = operations(layout, size.tokens)
    return {
        "size": size.name,
        "tokens": size.tokens,
        "seconds": spent,
        "tflop_s": work / spent / 1e12,
        "peak_memory_gb": peak_memory_gb(device),
    }


@torch.no_grad()
def vae(
    device: str, size: Size, *, dtype: torch.dtype = torch.bfloat16, base: int = 96
) -> dict[str, Any]:
    """A whole clip through Wan 2.1's decoder."""
    from diffusers import AutoencoderKLWan

    with torch.device(device):
        torch.manual_seed(0)
        model = AutoencoderKLWan(base_dim=base).to(dtype).eval()
    latents = torch.randn(1, 16, *size.latent, device=device, dtype=dtype)
    spent = seconds(lambda: model.decode(latents, return_dict=False), device, repetitions=3)
    return {"size": size.name, "seconds": spent, "peak_memory_gb": peak_memory_gb(device)}
