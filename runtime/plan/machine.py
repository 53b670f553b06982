"""The machine that a clip is planned for, and amounts of memory as they are told."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Bytes of memory; without a GPU `vram` is `None`."""

    ram: int
    vram: int | None = None


def shown(amount: int) -> str:
    """Bytes for a person: in GB (2^30 bytes), or in MB where that is little."""
    return f"{amount / (1 << 30):.1f} GB" if amount >= 1 << 30 else f"{amount / (1 << 20):.1f} MB"


def enough(amount: int) -> str:
    """Bytes rounded up, as options take them: 12.1GB."""
    return f"{math.ceil(10 * amount / (1 << 30)) / 10:.1f}GB"
