"""Tiny Wan checkpoints with random weights, in diffusers' format, and bundles made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope.runtime.pipeline import Pipeline

Settings = dict[str, Any]

TRANSFORMER: Settings = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 24,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
TEXT_ENCODER: Settings = {
    "vocab_size": 64,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 3,
}
VAES: dict[str, Settings] = {
    "four levels": {
        "base_dim": 4,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    },
    "patchified": {
        "base_dim": 4,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
    },
    "residual": {
        "base_dim": 4,
        "decoder_base_dim": 8,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
    },
}
VAES["TI2V-5B"] = {  # as published, but for its width: every channel has statistics of its own
    **VAES["residual"],
    "z_dim": 48,
    "latents_mean": [0.02 * i - 0.5 for i in range(48)],
    "latents_std": [0.3 + 0.01 * i for i in range(48)],
}
WORDS = ["a", "red", "green", "circle", "square", "moves", "left", "right", "to", "on", "black"]


def save_checkpoint(
    folder: Path,
    *,
    transformer: Settings | None = None,
    vae: str | Settings = "patchified",
    text_encoder: Settings | None = None,
    scheduler: Any = None,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    seed: int = 0,
    expand_timesteps: bool = False,
    boundary_ratio: float | None = None,
    image: bool = False,
    image_encoder: Settings | None = None,
) -> Path:
    """Write a checkpoint; settings are added to, or replace, the tiny ones above.

    With a boundary it has a second transformer; `image` makes it image-to-video.
    """
    import torch
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanImageToVideoPipeline,
        WanPipeline,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(seed)
    text = UMT5Config(**{**TEXT_ENCODER, **(text_encoder or {})})
    denoiser = {**TRANSFORMER, "text_dim": text.d_model, **(transformer or {})}
    modules = {
        "text_encoder": UMT5EncoderModel(text),
        "transformer": WanTransformer3DModel(**denoiser),
        "vae": AutoencoderKLWan(**(VAES[vae] if isinstance(vae, str) else vae)),
    }
    if boundary_ratio is not None:
        modules["transformer_2"] = WanTransformer3DModel(**denoiser)
    if image_encoder is not None:
        modules["image_encoder"] = tiny_clip(image_encoder)
    for module in modules.values():
        shake(module)
        module.to(getattr(torch, dtype))
    others = {"image_processor": tiny_processor(image_encoder)} if image_encoder else {}
    pipeline = (WanImageToVideoPipeline if image else WanPipeline)(
        tokenizer=tiny_tokenizer(),
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0),
        expand_timesteps=expand_timesteps,
        boundary_ratio=boundary_ratio,
        **modules,
        **others,
    )
    pipeline.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def tiny_clip(settings: Settings) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**settings))


def tiny_processor(settings: Settings) -> Any:
    """What makes images ready for it, with Pillow."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = settings["image_size"]
    return CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )


def shake(module: Any) -> None:
    """Add noise to all weights: norms begin as ones, which would hide a mistake in their order."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def tiny_tokenizer() -> Any:
    """A tokenizer of a few words, with UMT5's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Path]:
    """`save_checkpoint`, for tests that want a checkpoint of their own."""
    return save_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint for all tests that only read it."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The bundle of `tiny_checkpoint`, fp32, all graphs, verified."""
    from mutoscope.export import Options, export_bundle

    target = tmp_path_factory.mktemp("tiny") / "bundle"
    defaults = ["width=32", "height=32", "frames=5", "steps=2", "fps=8"]
    export_bundle(
        tiny_checkpoint, target, Options(defaults=defaults, license="CC0-1.0", verify=True)
    )
    return target


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Iterator[Pipeline]:
    """A module's own `bundle`, opened once for all of its tests."""
    with mutoscope.load(bundle) as opened:
        yield opened


def real_module(graph: Any) -> Any:
    """The module of a graph with the checkpoint's weights, as the exported graph has them."""
    from contextlib import nullcontext

    module = graph.build(nullcontext).eval().requires_grad_(False)
    for name, parameter in module.model.named_parameters():
        weight = graph.change(name, graph.component.load(name))
        parameter.data = weight.to(parameter.dtype)
    return module


@pytest.fixture(scope="session")
def load_module() -> Callable[[Any], Any]:
    """`real_module`: run in PyTorch what is exported, without exporting it."""
    return real_module
