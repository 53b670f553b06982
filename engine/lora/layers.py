"""What a LoRA's keys say: the tensors of each layer that it changes, and how strongly it does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from .file import LoraFile, StoredTensor

PARTS = {
    "lora_A.weight": "down",
    "lora_down.weight": "down",
    "lora_B.weight": "up",
    "lora_up.weight": "up",
    "lora_B.bias": "up_bias",
    "alpha": "alpha",
    "diff": "diff",
    "diff_b": "diff_b",
}
"""How keys end, and what stands there."""

TEXT_ENCODERS = ("text_encoder", "lora_te")
PEFT_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True)
class Layer:
    """The change of one module: `weight += strength · up @ down + diff`, and one of the bias.

    Attributes:
        name: of the module, as the keys spell it.
        parts: tensors by the values of `PARTS`.
        strength: what `up @ down` is multiplied by: alpha / rank.
    """

    name: str
    parts: Mapping[str, StoredTensor]
    strength: float

    @property
    def changes_weight(self) -> bool:
        """Whether the module's weight is changed."""
        return "up" in self.parts or "diff" in self.parts

    @property
    def changes_bias(self) -> bool:
        """Whether the module's bias is changed."""
        return "up_bias" in self.parts or "diff_b" in self.parts

    @property
    def rank(self) -> int | None:
        """The inner dimension, where there is a low-rank change."""
        return self.parts["down"].shape[0] if "down" in self.parts else None


def read_layers(file: LoraFile) -> dict[str, Layer]:
    """The layers of a file, by name.

    Raises:
        UserError: a key that is none of a plain LoRA's, half of a pair, a wrong alpha.
    """
    config = _peft_config(file)
    found: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in file.tensors.items():
        name, part = _split(file, key)
        if part in found.setdefault(name, {}):
            raise UserError(f"{file.path} has two tensors for {key!r}: lora_A and lora_down, say")
        found[name][part] = tensor
    if not found:
        raise UserError(f"{file.path} has no tensors in it; it is no LoRA")
    return {name: _layer(file, name, parts, config) for name, parts in found.items()}


def _split(file: LoraFile, key: str) -> tuple[str, str]:
    if key.startswith(TEXT_ENCODERS):
        raise UserError(
            f"{file.path} changes the text encoder ({key!r}); only changes to the denoiser can be "
            "applied"
        )
    for ending, part in PARTS.items():
        if key.endswith(f".{ending}"):
            return key.removesuffix(f".{ending}"), part
    raise UserError(
        f"{file.path} has {key!r}, which no plain LoRA has (its keys end in {', '.join(PARTS)}); "
        "DoRA, LoKr, LoHa and other kinds cannot be applied"
    )


def _layer(
    file: LoraFile, name: str, parts: dict[str, StoredTensor], config: Mapping[str, Any]
) -> Layer:
    if ("down" in parts) != ("up" in parts) or parts.keys() <= {"alpha", "up_bias"}:
        raise UserError(f"{file.path} has only one half of the pair of {name!r}; download it again")
    strength = 1.0
    if "down" in parts:
        strength = _strength(file, name, parts, config)
    return Layer(name, parts, strength)


def _strength(
    file: LoraFile, name: str, parts: dict[str, StoredTensor], config: Mapping[str, Any]
) -> float:
    rank = parts["down"].shape[0] if parts["down"].shape else 0
    if rank < 1:
        raise UserError(f"{file.path}: {name!r} has a rank of 0; download it again")
    if "alpha" in parts:
        alpha = parts["alpha"].values()
        if alpha.size != 1:
            raise UserError(f"{file.path}: the alpha of {name!r} is not one number")
        return float(alpha.item()) / rank
    if not config:
        return 1.0
    return _alpha(file, name, config) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _alpha(file: LoraFile, name: str, config: Mapping[str, Any]) -> float:
    """PEFT's alpha of a module: the first pattern that its name ends in, or the common one."""
    for pattern, alpha in config.get("alpha_pattern", {}).items():
        whole = pattern.startswith("^")
        plain = pattern.removeprefix("^")
        if not re.fullmatch(r"[\w.]+", plain):
            raise UserError(f"{file.path}: alpha_pattern {pattern!r} is no module's name")
        module = name.removeprefix("transformer.")
        if module == plain or (not whole and module.endswith(f".{plain}")):
            return float(alpha)
    return float(config["lora_alpha"])


def _peft_config(file: LoraFile) -> dict[str, Any]:
    """PEFT's configuration, which diffusers writes into the metadata; empty where there is none.

    Raises:
        UserError: it is damaged, or tells of a DoRA.
    """
    if PEFT_METADATA not in file.metadata:
        return {}
    try:
        whole = json.loads(file.metadata[PEFT_METADATA])
        config = {key.removeprefix("transformer."): value for key, value in whole.items()}
        alphas = [config["lora_alpha"], *config.setdefault("alpha_pattern", {}).values()]
        sound = all(math.isfinite(float(alpha)) for alpha in alphas)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{file.path} has damaged metadata ({PEFT_METADATA}); download it again")
    if config.get("use_dora"):
        raise UserError(f"{file.path} is a DoRA, which cannot be applied; a plain LoRA can")
    return config
