"""What the device can do at best: every other figure is read against these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .timing import seconds

COPIED = 1 << 30
SIDE = 8192
DTYPES = ("bfloat16", "float16", "float32")


def measure(
    device: str, *, copied: int = COPIED, side: int = SIDE, dtypes: Sequence[str] = DTYPES
) -> dict[str, Any]:
    """Copy bandwidth in GB/s (10^9, read and written), and matmul rates in TFLOP/s (TOP/s)."""
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"copy_gb_s": 2 * copied / seconds(lambda: target.copy_(source), device) / 1e9}
    for name in dtypes:
        square = torch.randn(side, side, device=device).to(getattr(torch, name))
        found[f"{name}_tflop_s"] = _rate(torch.mm, square, device)
    whole = torch.randint(-128, 128, (side, side), dtype=torch.int8, device=device)
    found["int8_top_s"] = _rate(torch._int_mm, whole, device)  # noqa: SLF001 - it has no public name
    return {name: round(value, 3) for name, value in found.items()}


def _rate(multiply: Callable[[Tensor, Tensor], Tensor], square: Tensor, device: str) -> float:
    """Operations a second, in 10^12; the right matrix is transposed, as int8 wants it."""
    spent = seconds(lambda: multiply(square, square.T), device)
    return 2 * float(len(square)) ** 3 / spent / 1e12
