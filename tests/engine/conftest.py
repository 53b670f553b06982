"""LoRA files, written byte by byte: any type, any lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STORED = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int8": "I8"}


class BFloat16:
    """The upper halves of float32 numbers."""

    def __init__(self, values: Any) -> None:
        self.array = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def to_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The safetensors format: the length of a JSON header, the header, the numbers."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for key, value in tensors.items():
        stored = "BF16" if isinstance(value, BFloat16) else STORED[np.asarray(value).dtype.name]
        array = value.array if isinstance(value, BFloat16) else np.asarray(value)
        offsets = [len(data), len(data) + array.nbytes]
        header[key] = {"dtype": stored, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.fixture
def write_lora(tmp_path: Path) -> Callable[..., Path]:
    """Writes tensors (arrays by key) as a LoRA and gives its path."""

    def write(
        tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, name: str = "style"
    ) -> Path:
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(to_bytes(tensors, metadata))
        return path

    return write
