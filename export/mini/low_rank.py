"""Low-rank changes to a denoiser's linear layers, as they are trained and kept in a file.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The file's keys are
those that diffusers' Wan pipelines load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ...engine.folders import write_whole
from ...errors import UserError

ATTENTION = (".attn1.", ".attn2.")
BLOCK = (*ATTENTION, ".ffn.")
"""Parts of the names of layers: those of the attentions, and all linear layers of the blocks."""

PREFIX = "transformer."


class LowRank(nn.Module):
    """A linear layer and a low-rank change to it, which is nothing at first."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.used = True

    def forward(self, hidden: Tensor) -> Tensor:
        """What the layer gives, changed where the change is in use."""
        made: Tensor = self.base(hidden)
        return made + self.lora_B(self.lora_A(hidden)) if self.used else made


Layers = Mapping[str, LowRank]
"""By name in the denoiser."""


def insert(denoiser: Any, rank: int, parts: Sequence[str], seed: int, device: str) -> Layers:
    """Freeze a denoiser and put changes to train on the linear layers whose names have a part."""
    denoiser.requires_grad_(False)
    torch.manual_seed(seed)
    names = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and any(part in name for part in parts)
    ]
    layers = {}
    for name in names:
        place, _, last = name.rpartition(".")
        layers[name] = LowRank(denoiser.get_submodule(name), rank).to(device)
        setattr(denoiser.get_submodule(place), last, layers[name])
    return layers


@contextmanager
def unchanged(layers: Layers) -> Iterator[None]:
    """Within, the denoiser is as it was."""
    for layer in layers.values():
        layer.used = False
    try:
        yield
    finally:
        for layer in layers.values():
            layer.used = True


def read(layers: Layers, path: Path) -> None:
    """Take the changes that `write` wrote.

    Raises:
        UserError: the file cannot be read, or is of other layers or another rank.
    """
    wanted = _tensors(layers)
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"--lora: {path} cannot be read: {error}") from None
    if {key: t.shape for key, t in found.items()} != {key: t.shape for key, t in wanted.items()}:
        raise UserError(f"--lora: {path} is of other layers or another rank than this stage's")
    with torch.no_grad():
        for key, tensor in wanted.items():
            tensor.copy_(found[key])


def write(layers: Layers, path: Path) -> None:
    """Write the changes, in half precision."""
    tensors = {key: tensor.half().cpu() for key, tensor in _tensors(layers).items()}
    write_whole(path, save(tensors, metadata={"format": "pt"}))


def _tensors(layers: Layers) -> dict[str, Tensor]:
    """The changes' weights by their keys in a file."""
    return {
        f"{PREFIX}{name}.{part}.weight": getattr(layer, part).weight
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }
