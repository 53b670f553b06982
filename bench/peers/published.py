"""Checkpoints in the configurations that Wan was published in, where none can be fetched.

    python -m mutoscope.bench.peers.published wan2.1-t2v-1.3b out/checkpoint
    python -m mutoscope.bench.peers.published wan2.2-ti2v-5b out/checkpoint --sparse

Weights are random numbers, or zeros that take no room on the disk. They are written tensor by
tensor in shards, as diffusers and transformers do, so that no model is ever in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from ...errors import UserError, unknown
from ..gpu_loop import embedded_checkpoint
from ..wan_layout import UMT5_XXL, WAN_1_3B, WAN_5B, WAN_14B, Layout, TextLayout
from .wan_checkpoint import copy_but

SHARD = 5 * 10**9
"""Bytes of the largest shard, as diffusers' and transformers' `save_pretrained` has it."""

SMALL = 9 << 10
"""Half precision's exponent of numbers between a 64th and a 32nd."""


@dataclass(frozen=True)
class Published:
    """What a checkpoint consists of.

    Attributes:
        layout: of the transformer.
        transformer: what else differs from a `WanTransformer3DModel` that is not said anything.
        vae: likewise from an `AutoencoderKLWan`.
        image_encoder: a `CLIPVisionModel`'s settings; `None` where there is none.
        index: what stands in `model_index.json` beside the models; with a `boundary_ratio` there
            are two transformers.
    """

    layout: Layout
    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)
    image_encoder: Mapping[str, Any] | None = None
    index: Mapping[str, Any] = field(default_factory=dict)


IMAGE = {"in_channels": 36, "out_channels": 16}
"""Of transformers that are given an image's latents and a mask beside the noise."""
VAE_22 = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
"""Wan 2.2's, but for the statistics of its latents."""
VIT_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
}
PUBLISHED: Mapping[str, Published] = {
    "wan2.1-t2v-1.3b": Published(WAN_1_3B),
    "wan2.1-t2v-14b": Published(WAN_14B),
    "wan2.1-i2v-14b": Published(
        WAN_14B,
        {**IMAGE, "image_dim": 1280, "added_kv_proj_dim": 5120},
        image_encoder=VIT_H,
        index={"_class_name": "WanImageToVideoPipeline"},
    ),
    "wan2.2-t2v-a14b": Published(WAN_14B, index={"boundary_ratio": 0.875}),
    "wan2.2-i2v-a14b": Published(
        WAN_14B, IMAGE, index={"_class_name": "WanImageToVideoPipeline", "boundary_ratio": 0.9}
    ),
    "wan2.2-ti2v-5b": Published(
        WAN_5B,
        {"in_channels": 48, "out_channels": 48},
        VAE_22,
        index={"expand_timesteps": True},
    ),
}


@dataclass(frozen=True)
class Part:
    """One model of a checkpoint.

    Attributes:
        folder: its name in the checkpoint.
        stem: of its files of weights.
        model: without memory.
        save_config: writes its config.json into a folder.
        tied: names that are left out of the files.
    """

    folder: str
    stem: str
    model: Any
    save_config: Callable[[Path], object]
    tied: frozenset[str] = frozenset()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor in the files, by name."""
        state = self.model.state_dict()
        return {name: tuple(t.shape) for name, t in state.items() if name not in self.tied}


def write(folder: Path, published: Published, text: TextLayout, *, sparse: bool) -> None:
    """Write a checkpoint in fp16; tokenizer and scheduler are the embedded model's.

    Args:
        folder: to write to; must not be there.
        published: what it consists of.
        text: of the text encoder.
        sparse: zeros that take no room on the disk, not random numbers.

    Raises:
        UserError: the folder is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another folder")
    copy_but(folder, embedded_checkpoint(), "transformer", "text_encoder", "vae")
    models: dict[str, Any] = {}
    for part in _parts(published, text):
        target = folder / part.folder
        target.mkdir()
        part.save_config(target)
        _write_shards(target, part, sparse=sparse)
        models[part.folder] = [type(part.model).__module__.split(".")[0], type(part.model).__name__]
    if published.image_encoder is not None:
        models["image_processor"] = _save_image_processor(folder / "image_processor", published)
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **models, **published.index}))


def _save_image_processor(folder: Path, published: Published) -> list[str]:
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    assert published.image_encoder is not None
    side = published.image_encoder["image_size"]
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return ["transformers", "CLIPImageProcessor"]


def _parts(published: Published, text: TextLayout) -> Iterator[Part]:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        denoiser = WanTransformer3DModel(**published.layout.settings, **published.transformer)
        encoder = UMT5EncoderModel(UMT5Config(**asdict(text), feed_forward_proj="gated-gelu"))
        vae = AutoencoderKLWan(**published.vae)
    second = ["transformer_2"] if "boundary_ratio" in published.index else []
    for name in ["transformer", *second]:
        yield Part(name, "diffusion_pytorch_model", denoiser, denoiser.save_config)
    if published.image_encoder is not None:
        with torch.device("meta"):
            clip = CLIPVisionModel(CLIPVisionConfig(**published.image_encoder))
        yield Part("image_encoder", "model", clip, clip.config.save_pretrained)
    tied = frozenset({"encoder.embed_tokens.weight"})
    yield Part("text_encoder", "model", encoder, encoder.config.save_pretrained, tied)
    yield Part("vae", "diffusion_pytorch_model", vae, vae.save_config)


def _write_shards(folder: Path, part: Part, *, sparse: bool) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in part.shapes.items():
        if shards[-1] and _bytes({**shards[-1], name: shape}) > SHARD:
            shards.append({})
        shards[-1][name] = shape
    places: dict[str, str] = {}
    for number, shapes in enumerate(shards, 1):
        of = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = folder / f"{part.stem}{of}.safetensors"
        _write_shard(file, shapes, sparse=sparse)
        places |= dict.fromkeys(shapes, file.name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": _bytes(part.shapes)}, "weight_map": places}
        (folder / f"{part.stem}.safetensors.index.json").write_text(json.dumps(index))


def _write_shard(file: Path, shapes: Mapping[str, tuple[int, ...]], *, sparse: bool) -> None:
    """A file in the format of safetensors: the header's length, the header, the tensors."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + _bytes({name: shape})
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": (offset, end)}
        offset = end
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    random = np.random.default_rng(0)
    with file.open("wb") as stream:
        stream.write(len(told).to_bytes(8, "little") + told)
        if sparse:
            stream.truncate(stream.tell() + offset)
            return
        for name, shape in shapes.items():
            stream.write(_weights(name, math.prod(shape), random).tobytes())


def _weights(name: str, count: int, random: np.random.Generator) -> Any:
    """Half precision: ones for norms, else numbers of either sign between a 64th and a 32nd."""
    if "norm" in name and not name.endswith("bias"):
        return np.ones(count, np.float16)
    bits = random.integers(0, 1 << 16, count, np.uint16)
    return bits & 0x83FF | SMALL


def _bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(2 * math.prod(shape) for shape in shapes.values())


@click.command()
@click.argument("layout")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--sparse", is_flag=True, help="Zeros that take no room on the disk.")
@click.option(
    "--text-layers",
    type=click.IntRange(1, UMT5_XXL.num_layers),
    default=UMT5_XXL.num_layers,
    show_default=True,
    help="Of the text encoder: fewer where memory is short.",
)
def main(layout: str, out: Path, *, sparse: bool, text_layers: int) -> None:
    """Write a checkpoint of LAYOUT to the new folder OUT."""
    if layout not in PUBLISHED:
        raise click.UsageError(unknown("layout", layout, PUBLISHED))
    text = replace(UMT5_XXL, num_layers=text_layers)
    try:
        write(out, PUBLISHED[layout], text, sparse=sparse)
    except UserError as error:
        raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    main()
