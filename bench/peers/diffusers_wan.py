"""diffusers' own Wan modules with random weights: eager, and compiled by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .timing import peak_memory_gb, seconds

TEXT_TOKENS = 512


@dataclass(frozen=True)
class Layout:
    """A transformer's dimensions, as `WanTransformer3DModel` takes them."""

    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    text_dim: int

    @property
    def width(self) -> int:
        """Of the hidden states."""
        return self.heads * self.head_dim


WAN_1_3B = Layout(heads=12, head_dim=128, layers=30, ffn_dim=8960, text_dim=4096)
TINY = Layout(heads=2, head_dim=12, layers=2, ffn_dim=32, text_dim=16)


@dataclass(frozen=True)
class Size:
    """A clip's size in pixels and frames; compression 4x8x8, patches 1x2x2."""

    width: int
    height: int
    frames: int

    @property
    def latent(self) -> tuple[int, int, int]:
        """Latent frames, height and width."""
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8

    @property
    def tokens(self) -> int:
        """How many tokens the denoiser sees."""
        frames, height, width = self.latent
        return frames * (height // 2) * (width // 2)

    @property
    def name(self) -> str:
        """As in "832x480x81"."""
        return f"{self.width}x{self.height}x{self.frames}"


def operations(layout: Layout, tokens: int, text: int = TEXT_TOKENS) -> float:
    """Floating-point operations of one forward pass: the blocks' matrices and attentions."""
    d = layout.width
    own = 8 * tokens * d * d + 4 * tokens * tokens * d
    cross = 4 * tokens * d * d + 4 * text * d * d + 4 * tokens * text * d
    return float(layout.layers * (own + cross + 4 * tokens * d * layout.ffn_dim))


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
