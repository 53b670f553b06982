"""A LoRA that was asked for: its file, how strongly it is applied, and to which denoiser."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import UserError
from ..bundle import Bundle
from .file import LoraFile, own_loras, read_file
from .layers import Layer, read_layers

Scale = float | Mapping[str, float]
"""Of a file: for every denoiser, or for some of them by name, e.g. `{"denoiser_2": 0.8}`."""


@dataclass(frozen=True)
class Lora:
    """A file and its scale; 1 is as it was trained, 0 is nothing.

    Attributes:
        file: what was read.
        scale: of its changes.
        denoiser: the one of two that it changes; `None` is every one that there is.
    """

    file: LoraFile
    scale: float
    denoiser: str | None = None

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """What it changes, by the names of its keys."""
        return read_layers(self.file)

    def record(self) -> dict[str, Any]:
        """What identifies it: name, sha256, scale, and the denoiser where one was named."""
        said = {"name": self.file.path.name, "sha256": self.file.sha256, "scale": self.scale}
        return said if self.denoiser is None else {**said, "denoiser": self.denoiser}


def open_loras(
    scales: Mapping[str | os.PathLike[str], Scale], bundle: Bundle | None = None
) -> tuple[Lora, ...]:
    """Read files, or a bundle's own by their names, with their scales; each file once.

    Raises:
        UserError: a file that cannot be read or is no LoRA, or a scale that is no number.
    """
    for path, scale in scales.items():
        for _, each in _by_denoiser(scale):
            if isinstance(each, bool) or not isinstance(each, int | float) or not _finite(each):
                raise UserError(f"the scale of {os.fspath(path)} must be a number, not {each!r}")
    own = {} if bundle is None else own_loras(bundle)
    return tuple(
        Lora(file, float(each), denoiser)
        for path, scale in scales.items()
        for file in [read_file(path, own)]
        for denoiser, each in _by_denoiser(scale)
    )


def _by_denoiser(scale: Scale) -> Iterable[tuple[str | None, float]]:
    return scale.items() if isinstance(scale, Mapping) else [(None, scale)]


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
