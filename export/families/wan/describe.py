"""What a bundle's manifest says of a Wan checkpoint: text, denoiser, latents, limits."""

from __future__ import annotations

from ....engine.manifest import Defaults, DenoiserSpec, LatentSpec, Limits, PreviewSpec, TextSpec
from ...checkpoint import Checkpoint
from ...facts import Facts
from ...tokenizer import FILE as TOKENIZER
from . import settings

MAX_TOKENS = 512
"""What `WanPipeline` pads every prompt to, and the model was trained on."""

WAN_21 = Defaults(width=832, height=480, frames=81, fps=16, steps=50, guidance_scale=5.0)
A14B = Defaults(
    width=1280, height=720, frames=81, fps=16, steps=40, guidance_scale=4.0, guidance_scale_2=3.0
)
A14B_IMAGE = Defaults(width=1280, height=720, frames=81, fps=16, steps=40, guidance_scale=3.5)
TI2V = Defaults(width=1280, height=704, frames=121, fps=24, steps=50, guidance_scale=5.0)


def defaults(checkpoint: Checkpoint) -> Defaults:
    """The request that the model was published with: Wan 2.1's, or one of Wan 2.2's.

    Source: Wan-Video/Wan2.2, `wan/configs/`.
    """
    way = settings.image_way(checkpoint)
    if settings.two_experts(checkpoint):
        return A14B_IMAGE if way == "channels" else A14B
    return TI2V if way == "first_frame" else WAN_21


def facts(checkpoint: Checkpoint) -> Facts:
    """All that needs no weights."""
    return Facts(
        text=text(checkpoint),
        denoiser=denoiser(checkpoint),
        latents=latents(checkpoint),
        limits=limits(checkpoint),
    )


def text(checkpoint: Checkpoint) -> TextSpec:
    """The tokenizer and the embedding of prompts."""
    config = checkpoint.config("text_encoder")
    return TextSpec(
        tokenizer=TOKENIZER,
        max_tokens=MAX_TOKENS,
        pad_token_id=config.get("pad_token_id", 0),
        embedding_dim=config["d_model"],
    )


def denoiser(checkpoint: Checkpoint) -> DenoiserSpec:
    """The transformer's dimensions, whether it takes an image, and where the second follows."""
    config = settings.transformer(checkpoint)
    return DenoiserSpec(
        hidden_size=config.num_attention_heads * config.attention_head_dim,
        ffn_dim=config.ffn_dim,
        heads=config.num_attention_heads,
        layers=config.num_layers,
        image=settings.image_way(checkpoint),
        boundary=checkpoint.index["boundary_ratio"] if settings.two_experts(checkpoint) else None,
    )


def latents(checkpoint: Checkpoint) -> LatentSpec:
    """The latent space of the VAE and the patches of the denoiser; the preview is still blank."""
    vae = settings.vae(checkpoint)
    return LatentSpec(
        channels=vae.z_dim,
        mean=tuple(vae.latents_mean),
        std=tuple(vae.latents_std),
        temporal_compression=vae.scale_factor_temporal,
        spatial_compression=vae.scale_factor_spatial,
        patch_size=tuple(settings.transformer(checkpoint).patch_size),
        preview=PreviewSpec(matrix=((0.0,) * vae.z_dim,) * 3, bias=(0.0,) * 3),
    )


def limits(checkpoint: Checkpoint) -> Limits:
    """As far as the denoiser's table of rotary positions goes on each axis."""
    transformer, vae = settings.transformer(checkpoint), settings.vae(checkpoint)
    frames, height, width = (transformer.rope_max_seq_len * p for p in transformer.patch_size)
    return Limits(
        max_width=width * vae.scale_factor_spatial,
        max_height=height * vae.scale_factor_spatial,
        max_frames=1 + (frames - 1) * vae.scale_factor_temporal,
    )
