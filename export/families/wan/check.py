"""Which Wan checkpoints can be exported, decided before any work."""

from __future__ import annotations

from ....errors import CheckpointError
from ...checkpoint import Checkpoint
from . import settings
from .settings import TRANSFORMERS

KINDS = {
    "text_encoder": ("UMT5EncoderModel",),
    "transformer": ("WanTransformer3DModel",),
    "vae": ("AutoencoderKLWan",),
    "transformer_2": ("WanTransformer3DModel",),
    "image_encoder": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
}
OPTIONAL = {"transformer_2", "image_encoder"}
FRAMES_PER_LATENT = 4
TI2V_PATCH = (1, 2, 2)
"""diffusers' pipelines take every second pixel's timestep, whatever the patches are."""


def check(checkpoint: Checkpoint) -> None:
    """Refuse what is damaged, and what is of another build than those published.

    Raises:
        CheckpointError: says what, and what would do.
    """
    _check_parts(checkpoint)
    _check_experts(checkpoint)
    _check_image(checkpoint)
    _check_vae(checkpoint)
    _check_together(checkpoint)


def _check_parts(checkpoint: Checkpoint) -> None:
    for name, kinds in KINDS.items():
        if checkpoint.has(name) and checkpoint.kind(name) not in kinds:
            raise CheckpointError(
                f"{checkpoint.path} has {checkpoint.kind(name)} for its {name}; "
                f"{kinds[0]} is needed"
            )
    for name in KINDS:
        if checkpoint.has(name) or name not in OPTIONAL:
            checkpoint.config(name)
    for name in ("tokenizer", "scheduler"):
        checkpoint.folder(name)


def _check_image(checkpoint: Checkpoint) -> None:
    """See that what attends to an image has all that it takes to embed one."""
    config = settings.transformer(checkpoint)
    if config.pos_embed_seq_len is not None:
        raise CheckpointError(
            f"{checkpoint.path} makes clips between two images (pos_embed_seq_len), which is not "
            "supported yet; those that begin with one are"
        )
    if config.image_dim is None and config.added_kv_proj_dim is None:
        return
    width = config.num_attention_heads * config.attention_head_dim
    if settings.image_way(checkpoint) != "channels" or config.added_kv_proj_dim != width:
        raise CheckpointError(
            f"{checkpoint.path} has a transformer that attends to an image (image_dim, "
            f"added_kv_proj_dim); it needs WanImageToVideoPipeline and {width} for the latter"
        )
    _, _, given = settings.image_tokens(checkpoint)
    if given != config.image_dim:
        raise CheckpointError(
            f"{checkpoint.path}: the transformer wants images of {config.image_dim} channels, the "
            f"image encoder gives {given}"
        )
    settings.image_statistics(checkpoint)


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
    width = checkpoint.config("text_encoder").get("d_model")
    if denoiser.text_dim != width:
        raise CheckpointError(
            f"{checkpoint.path}: the transformer wants text of {denoiser.text_dim} channels, "
            f"the text encoder gives {width}"
        )
    stated = denoiser.in_channels, denoiser.out_channels or denoiser.in_channels
    wanted = settings.input_channels(checkpoint), channels
    if stated != wanted:
        raise CheckpointError(
            f"{checkpoint.path}: the transformer takes and gives {stated} channels; "
            f"{checkpoint.pipeline} with this VAE wants {wanted}"
        )
    by_frame = settings.image_way(checkpoint) == "first_frame"
    if by_frame and tuple(denoiser.patch_size) != TI2V_PATCH:
        raise CheckpointError(
            f"{checkpoint.path} has patches of {list(denoiser.patch_size)}; with a timestep for "
            f"each token (expand_timesteps) they are {list(TI2V_PATCH)} in diffusers"
        )
