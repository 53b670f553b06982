"""A LoRA that was asked for: its file, and how strongly it is applied."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import UserError
from .file import LoraFile, read_file
from .layers import Layer, read_layers


@dataclass(frozen=True)
class Lora:
    """A file and its scale; 1 is as it was trained, 0 is nothing."""

    file: LoraFile
    scale: float

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """What it changes, by the names of its keys."""
        return read_layers(self.file)

    def record(self) -> dict[str, Any]:
        """What identifies it: name, sha256, scale."""
        return {"name": self.file.path.name, "sha256": self.file.sha256, "scale": self.scale}


def open_loras(scales: Mapping[str | os.PathLike[str], float]) -> tuple[Lora, ...]:
    """Read files with their scales.

    Raises:
        UserError: a file that cannot be read or is no LoRA, or a scale that is no number.
    """
    for path, scale in scales.items():
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not _finite(scale):
            raise UserError(f"the scale of {os.fspath(path)} must be a number, not {scale!r}")
    return tuple(Lora(read_file(path), float(scale)) for path, scale in scales.items())


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
