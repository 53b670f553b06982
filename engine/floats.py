"""Bytes → float32, whatever they were stored as; NumPy itself has no bfloat16."""

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
