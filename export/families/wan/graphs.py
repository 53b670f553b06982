"""The graphs of a Wan checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ....engine.manifest import DENOISERS, DType, Precision, TensorSpec
from ...checkpoint import Checkpoint
from ...graph import Graph, Skeleton, split_axis
from . import denoiser, image_encoder, settings, text_encoder, vae
from .lora import lora_spec
from .settings import described_by

if TYPE_CHECKING:
    from torch import Tensor

TORCH_TYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
CACHE_TYPES: dict[Precision, DType] = {"fp32": "float32", "fp16": "float16"}
LATENT = "latent_height", "latent_width"


def graphs(checkpoint: Checkpoint, precision: Precision) -> tuple[Graph, ...]:
    """Encoders of text and image, denoisers, first and next calls of the VAE's coders."""
    denoisers = DENOISERS if settings.two_experts(checkpoint) else DENOISERS[:1]
    embedded = settings.image_embedded(checkpoint)
    return (
        text_encoder_graph(checkpoint, precision),
        *((image_encoder_graph(checkpoint, precision),) if embedded else ()),
        *(denoiser_graph(checkpoint, precision, name) for name in denoisers),
        *vae_graphs(checkpoint, precision, Decoding(checkpoint)),
        *vae_graphs(checkpoint, precision, Encoding(checkpoint)),
    )


def text_encoder_graph(checkpoint: Checkpoint, precision: Precision) -> Graph:
    """Token ids → prompt embeddings."""
    component = checkpoint.component("text_encoder", text_encoder.TIED)

    def build(skeleton: Skeleton) -> nn.Module:
        from transformers import UMT5Config, UMT5EncoderModel

        with skeleton(), described_by(component):
            model = UMT5EncoderModel(UMT5Config(**component.config))
            text_encoder.set_precision(model, TORCH_TYPES[precision])
        return text_encoder.TextEncoder(model)

    tokens = ("batch", "tokens")
    return Graph(
        name="text_encoder",
        component=component,
        build=build,
        inputs=(_spec("input_ids", tokens, "int64"), _spec("attention_mask", tokens, "int64")),
        outputs=(_spec("prompt_embeds", (*tokens, component.config["d_model"])),),
        data="text_encoder.data",
        precision=precision,
    )


def image_encoder_graph(checkpoint: Checkpoint, precision: Precision) -> Graph:
    """An image as CLIP wants it, cut and scaled → its embedding."""
    component = checkpoint.component("image_encoder")
    component.tied = image_encoder.other_names(component)
    size, tokens, width = settings.image_tokens(checkpoint)
    mean, std = settings.image_statistics(checkpoint)

    def build(skeleton: Skeleton) -> nn.Module:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        with skeleton(), described_by(component):
            model = CLIPVisionModel(CLIPVisionConfig(**component.config))
            image_encoder.set_precision(model, TORCH_TYPES[precision])
        return image_encoder.ImageEncoder(model, mean, std)

    return Graph(
        name="image_encoder",
        component=component,
        build=build,
        inputs=(_spec("image", ("batch", 3, size, size)),),
        outputs=(_spec("image_embeds", ("batch", tokens, width)),),
        data="image_encoder.data",
        precision=precision,
    )


def denoiser_graph(checkpoint: Checkpoint, precision: Precision, name: str = "denoiser") -> Graph:
    """Latents, a timestep (or one for each frame) and prompt embeddings → the flow's velocity."""
    folder = settings.TRANSFORMERS[DENOISERS.index(name)]
    component, config = checkpoint.component(folder), settings.transformer(checkpoint, folder)
    axes = ("latent_frames", *LATENT)
    by_frame = settings.image_way(checkpoint) == "first_frame"
    times = ("batch", "latent_frames") if by_frame else ("batch",)
    image: tuple[TensorSpec, ...] = ()
    if settings.image_embedded(checkpoint):
        _, *embedding = settings.image_tokens(checkpoint)
        image = (_spec("encoder_hidden_states_image", ("batch", *embedding)),)

    def build(skeleton: Skeleton) -> nn.Module:
        from diffusers import WanTransformer3DModel

        with skeleton(), described_by(component):
            model = WanTransformer3DModel.from_config(component.config)
            denoiser.set_precision(model, TORCH_TYPES[precision])
        return denoiser.Denoiser(model)

    def change(name: str, weight: Tensor) -> Tensor:
        return denoiser.rotary_halves(name, weight, config.attention_head_dim)

    return Graph(
        name=name,
        component=component,
        build=build,
        inputs=(
            _spec("hidden_states", ("batch", config.in_channels, *axes)),
            _spec("timestep", times),
            _spec("encoder_hidden_states", ("batch", "tokens", config.text_dim)),
            *image,
        ),
        outputs=(_spec("sample", ("batch", config.out_channels or config.in_channels, *axes)),),
        data=f"{name}.data",
        precision=precision,
        steps=dict(zip(axes, config.patch_size, strict=True)),
        largest={
            axis: config.rope_max_seq_len * patch
            for axis, patch in zip(axes, config.patch_size, strict=True)
        },
        change=change,
        lora=lora_spec(image=bool(image)),
    )


class Decoding:
    """The VAE's way from latents to frames."""

    name = "vae_decoder"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.vae = settings.vae(checkpoint)
        self.module = vae.Decoder

    def source(self, *, first: bool) -> TensorSpec:
        """What a call takes, beside the caches."""
        del first
        return _spec("latents", ("batch", self.vae.z_dim, 1, *LATENT))

    def result(self, *, first: bool) -> TensorSpec:
        """What a call gives, beside the caches."""
        return _spec("frames", _frame_axes(self.vae, first=first))


class Encoding:
    """The VAE's way from frames to latents."""

    name = "vae_encoder"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.vae = settings.vae(checkpoint)
        self.module = vae.Encoder

    def source(self, *, first: bool) -> TensorSpec:
        """What a call takes, beside the caches."""
        return _spec("frames", _frame_axes(self.vae, first=first))

    def result(self, *, first: bool) -> TensorSpec:
        """What a call gives, beside the caches."""
        del first
        return _spec("latents", ("batch", self.vae.z_dim, 1, *LATENT))


def vae_graphs(
    checkpoint: Checkpoint, precision: Precision, way: Decoding | Encoding
) -> tuple[Graph, Graph]:
    """The first call, which starts the caches, and the next ones, which take them and give new."""
    component = checkpoint.component("vae")

    def build(skeleton: Skeleton) -> nn.Module:
        from diffusers import AutoencoderKLWan

        with skeleton(), described_by(component):
            model = AutoencoderKLWan.from_config(component.config)
            vae.set_precision(model, TORCH_TYPES[precision])
        return way.module(model)

    axes = _cache_axes(build, way.source(first=True))

    def caches(prefix: str) -> tuple[TensorSpec, ...]:
        dtype = CACHE_TYPES[precision]
        return tuple(_spec(f"{prefix}.{i:02}", shape, dtype) for i, shape in enumerate(axes))

    def graph(call: str, *, first: bool) -> Graph:
        return Graph(
            name=f"{way.name}_{call}",
            component=component,
            build=build,
            inputs=(way.source(first=first), *(() if first else caches("cache"))),
            outputs=(way.result(first=first), *caches("new_cache")),
            data=f"{way.name}.data",
            precision=precision,
        )

    return graph("first", first=True), graph("next", first=False)


def _cache_axes(build: Any, source: TensorSpec) -> list[tuple[int | str, ...]]:
    """The shapes of all caches, found by a first call on tensors without memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    module = build(lambda: mode)
    height, width = LATENT
    sizes = {"batch": 1, height: 1, width: 1}
    with mode, torch.no_grad():
        _, *caches = module(torch.zeros([_length(axis, sizes) for axis in source.shape]))
    return [
        ("batch", c.shape[1], c.shape[2], _times(c.shape[3], height), _times(c.shape[4], width))
        for c in caches
    ]


def _length(axis: int | str, sizes: dict[str, int]) -> int:
    if isinstance(axis, int):
        return axis
    factor, name = split_axis(axis)
    return factor * sizes[name]


def _times(factor: int, axis: str) -> str:
    return axis if factor == 1 else f"{factor}*{axis}"


def _frame_axes(config: Any, *, first: bool) -> tuple[int | str, ...]:
    factor, (height, width) = config.scale_factor_spatial, LATENT
    frames = 1 if first else config.scale_factor_temporal
    return ("batch", 3, frames, _times(factor, height), _times(factor, width))


def _spec(name: str, shape: tuple[int | str, ...], dtype: DType = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)
