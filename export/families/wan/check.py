"""Which Wan checkpoints can be exported, decided before any work."""

from __future__ import annotations

from ....errors import CheckpointError
from ...checkpoint import Checkpoint
from . import settings
from .settings import TRANSFORMERS

KINDS = {
    "text_encoder": "UMT5EncoderModel",
    **dict.fromkeys(TRANSFORMERS, "WanTransformer3DModel"),
    "vae": "AutoencoderKLWan",
}
FRAMES_PER_LATENT = 4
TI2V_PATCH = (1, 2, 2)
"""diffusers' pipelines take every second pixel's timestep, whatever the patches are."""


def check(checkpoint: Checkpoint) -> None:
    """Refuse what is damaged, and image-to-video models that take the image as channels.

    Raises:
        CheckpointError: says what, and what would do.
    """
    for name, kind in KINDS.items():
        if checkpoint.has(name) and checkpoint.kind(name) != kind:
            raise CheckpointError(
                f"{checkpoint.path} has {checkpoint.kind(name)} for its {name}; {kind} is needed"
            )
    for name in KINDS:
        if checkpoint.has(name) or name != "transformer_2":
            checkpoint.component(name)
    for name in ("tokenizer", "scheduler"):
        checkpoint.folder(name)
    config = checkpoint.component("transformer").config
    if config.get("image_dim") is not None or config.get("added_kv_proj_dim") is not None:
        raise CheckpointError(
            f"{checkpoint.path} is a Wan image-to-video model (image_dim, added_kv_proj_dim), "
            "which is not supported yet; Wan 2.1 and 2.2 text-to-video and Wan 2.2 TI2V are"
        )
    _check_experts(checkpoint)
    _check_vae(checkpoint)
    _check_together(checkpoint)


def _check_experts(checkpoint: Checkpoint) -> None:
    """See that a second transformer is as the first, and that it is known where it takes over."""
    boundary = checkpoint.index.get("boundary_ratio")
    if not settings.two_experts(checkpoint):
        if boundary is not None:
            raise CheckpointError(
                f"{checkpoint.path} has a boundary_ratio and no transformer_2; "
                "download the checkpoint again"
            )
        return
    if not isinstance(boundary, float) or not 0 < boundary < 1:
        raise CheckpointError(
            f"{checkpoint.path} has a transformer_2, and {boundary!r} for its boundary_ratio; "
            "it must lie between 0 and 1"
        )
    first, second = (vars(settings.transformer(checkpoint, name)) for name in TRANSFORMERS)
    for key, value in first.items():
        if second[key] != value:
            raise CheckpointError(
                f"{checkpoint.path}: the transformers differ in {key}: {value!r}, {second[key]!r}; "
                "two experts of one build are supported"
            )


def _check_vae(checkpoint: Checkpoint) -> None:
    """Compare the compression that the VAE states with the one that its levels make."""
    config = settings.vae(checkpoint)
    spatial = 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
    temporal = 2 ** sum(map(bool, config.temperal_downsample))
    where = f"{checkpoint.path / 'vae' / 'config.json'}"
    if config.scale_factor_spatial != spatial:
        raise CheckpointError(
            f"{where} says scale_factor_spatial {config.scale_factor_spatial}, its levels and "
            f"patches make {spatial}; correct it"
        )
    if not config.scale_factor_temporal == temporal == FRAMES_PER_LATENT:
        raise CheckpointError(
            f"{where}: {temporal} frames a latent frame (scale_factor_temporal "
            f"{config.scale_factor_temporal}); Wan's pipeline wants {FRAMES_PER_LATENT}"
        )


def _check_together(checkpoint: Checkpoint) -> None:
    denoiser, channels = settings.transformer(checkpoint), settings.vae(checkpoint).z_dim
    width = checkpoint.component("text_encoder").config.get("d_model")
    if denoiser.text_dim != width:
        raise CheckpointError(
            f"{checkpoint.path}: the transformer wants text of {denoiser.text_dim} channels, "
            f"the text encoder gives {width}"
        )
    if {denoiser.in_channels, denoiser.out_channels or channels} != {channels}:
        raise CheckpointError(
            f"{checkpoint.path}: the transformer takes latents of {denoiser.in_channels} channels, "
            f"the VAE has {channels}; models that take an image as channels are not supported yet"
        )
    if settings.first_frame_given(checkpoint) and tuple(denoiser.patch_size) != TI2V_PATCH:
        raise CheckpointError(
            f"{checkpoint.path} has patches of {list(denoiser.patch_size)}; with a timestep for "
            f"each token (expand_timesteps) they are {list(TI2V_PATCH)} in diffusers"
        )
