"""Checkpoints in the configurations that Wan was published in, where none can be fetched.

    python -m mutoscope.bench.peers.published wan2.1-t2v-1.3b out/checkpoint
    python -m mutoscope.bench.peers.published wan2.1-t2v-14b out/checkpoint --sparse

Weights are random numbers, or zeros that take no room on the disk. They are written tensor by
tensor in shards, as diffusers and transformers do, so that no model is ever in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from ...errors import UserError, unknown
from ..gpu_loop import embedded_checkpoint
from ..wan_layout import UMT5_XXL, WAN_1_3B, WAN_14B, Layout, TextLayout
from .wan_checkpoint import copy_but

LAYOUTS: Mapping[str, Layout] = {"wan2.1-t2v-1.3b": WAN_1_3B, "wan2.1-t2v-14b": WAN_14B}
SHARD = 5 * 10**9
"""Bytes of the largest shard, as diffusers' and transformers' `save_pretrained` has it."""

SMALL = 9 << 10
"""Half precision's exponent of numbers between a 64th and a 32nd."""


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


def write(
    folder: Path, layout: Layout, text: TextLayout, *, sparse: bool, vae_base: int = 96
) -> None:
    """Write a checkpoint in fp16; the tokenizer is the embedded model's.

    Args:
        folder: to write to; must not be there.
        layout: of the transformer.
        text: of the text encoder.
        sparse: zeros that take no room on the disk, not random numbers.
        vae_base: the width that the VAE's are multiples of.

    Raises:
        UserError: the folder is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another folder")
    copy_but(folder, embedded_checkpoint(), "transformer", "text_encoder", "vae")
    for part in _parts(layout, text, vae_base):
        target = folder / part.folder
        target.mkdir()
        part.save_config(target)
        _write_shards(target, part, sparse=sparse)


def _parts(layout: Layout, text: TextLayout, vae_base: int) -> Iterator[Part]:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        denoiser = WanTransformer3DModel(
            num_attention_heads=layout.heads,
            attention_head_dim=layout.head_dim,
            num_layers=layout.layers,
            ffn_dim=layout.ffn_dim,
            text_dim=layout.text_dim,
        )
        encoder = UMT5EncoderModel(UMT5Config(**asdict(text), feed_forward_proj="gated-gelu"))
        vae = AutoencoderKLWan(base_dim=vae_base)
    yield Part("transformer", "diffusion_pytorch_model", denoiser, denoiser.save_config)
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
    if layout not in LAYOUTS:
        raise click.UsageError(unknown("layout", layout, LAYOUTS))
    text = replace(UMT5_XXL, num_layers=text_layers)
    try:
        write(out, LAYOUTS[layout], text, sparse=sparse)
    except UserError as error:
        raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    main()
