"""Bytes → float32, whatever they were stored as, and float32 → bfloat16, which NumPy lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
"""What can be read, as safetensors names it, and how NumPy takes its bytes."""


def read_floats(data: bytes | bytearray, stored: str) -> NDArray[np.float32]:
    """Numbers as float32, in one dimension. What is too large for it becomes infinite."""
    raw = np.frombuffer(data, STORED[stored])
    if stored == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return raw.astype(np.float32)


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of bfloat16, rounded to nearest, ties away from zero; values are finite."""
    upper: NDArray[np.uint32] = (values.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)
    return upper.astype(np.uint16)
