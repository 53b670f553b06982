"""Which Wan checkpoints can be exported, decided before any work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ....errors import CheckpointError
from ...checkpoint import Checkpoint

KINDS = {
    "text_encoder": "UMT5EncoderModel",
    "transformer": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
}
FRAMES_PER_LATENT = 4
TI2V_PATCH = (1, 2, 2)
"""diffusers' pipelines take every second pixel's timestep, whatever the patches are."""


def check(checkpoint: Checkpoint) -> None:
    """Refuse what is damaged, and what is neither Wan 2.1 text-to-video nor Wan 2.2 TI2V.

    Raises:
        CheckpointError: says what, and what would do.
    """
    for name, kind in KINDS.items():
        if checkpoint.has(name) and checkpoint.kind(name) != kind:
            raise CheckpointError(
                f"{checkpoint.path} has {checkpoint.kind(name)} for its {name}; {kind} is needed"
            )
    configs = {name: checkpoint.config(name) for name in KINDS}
    for name in ("tokenizer", "scheduler"):
        checkpoint.folder(name)
    for problem in _not_yet(checkpoint.index, configs["transformer"]):
        raise CheckpointError(
            f"{checkpoint.path} is {problem}, which is not supported yet; "
            "Wan 2.1 text-to-video and Wan 2.2 TI2V are"
        )
    _check_vae(checkpoint)
    _check_together(checkpoint)


def _not_yet(index: dict[str, Any], transformer: dict[str, Any]) -> Iterator[str]:
    if index.get("boundary_ratio") is not None or "transformer_2" in _components(index):
        yield "Wan 2.2 with two experts (transformer_2)"
    if transformer.get("image_dim") is not None or transformer.get("added_kv_proj_dim") is not None:
        yield "a Wan image-to-video model (image_dim, added_kv_proj_dim)"


def _components(index: dict[str, Any]) -> set[str]:
    return {name for name, entry in index.items() if isinstance(entry, list) and entry[1]}


def _check_vae(checkpoint: Checkpoint) -> None:
    """Compare the compression that the VAE states with the one that its levels make."""
    from .settings import vae

    config = vae(checkpoint)
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
    from . import settings

    denoiser, channels = settings.transformer(checkpoint), settings.vae(checkpoint).z_dim
    width = checkpoint.config("text_encoder").get("d_model")
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
