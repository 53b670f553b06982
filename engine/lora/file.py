"""A LoRA's file: safetensors, read whole, so that what is applied is what was hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ..bundle import Bundle
from ..floats import STORED, read_floats

MAX_BYTES = 8 << 30
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in the file, under its key."""

    key: str
    stored: str
    shape: tuple[int, ...]
    data: bytearray = field(repr=False)

    def values(self) -> NDArray[np.float32]:
        """The numbers."""
        return read_floats(self.data, self.stored).reshape(self.shape)


@dataclass(frozen=True)
class LoraFile:
    """What a file holds.

    Attributes:
        path: where it is.
        sha256: of the whole file, in hex.
        tensors: by key.
        metadata: what its writer said of it.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, StoredTensor] = field(repr=False)
    metadata: Mapping[str, str] = field(repr=False)


def read_file(
    path: str | os.PathLike[str], own: Mapping[str, Path] = MappingProxyType({})
) -> LoraFile:
    """Read a LoRA: a file, or by its name one that a bundle brings along.

    Args:
        path: of the file, or the name.
        own: the bundle's, as `own_loras` gives them.

    Raises:
        UserError: no such file, one that is damaged or no safetensors, or with values that are no
            numbers.
    """
    file = own.get(os.fspath(path), Path(path))
    raw = _read_bytes(file, own)
    tensors, metadata = _parse(file, raw)
    for tensor in tensors.values():
        _check(file, tensor)
    return LoraFile(file, hashlib.sha256(raw).hexdigest(), tensors, metadata)


def own_loras(bundle: Bundle) -> dict[str, Path]:
    """The LoRAs that a bundle brings along, by name: `outlines` for outlines.safetensors."""
    files = [name for name in bundle.manifest.files if name.endswith(SUFFIX)]
    return {name.removesuffix(SUFFIX): bundle.file(name) for name in sorted(files)}


def _read_bytes(path: Path, own: Mapping[str, Path]) -> bytes:
    try:
        if not path.is_file():
            what = "it is no file" if path.exists() else "there is no such file"
            known = f" (the bundle's own: {', '.join(own)})" if own else ""
            raise UserError(f"no LoRA at {path}: {what}{known}")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES >> 30} GB; it is no LoRA")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _parse(path: Path, raw: bytes) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    from safetensors import SafetensorError, deserialize, safe_open

    try:
        with safe_open(path, framework="np") as stream:
            metadata = dict(stream.metadata() or {})
        found = deserialize(raw)  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or not in safetensors format ({error}); download or convert it"
        ) from None
    return {
        key: StoredTensor(key, entry["dtype"], tuple(entry["shape"]), entry["data"])
        for key, entry in sorted(found, key=itemgetter(0))  # it comes in any order
    }, metadata


def _check(path: Path, tensor: StoredTensor) -> None:
    if tensor.stored not in STORED:
        raise UserError(
            f"{path}: {tensor.key!r} is stored as {tensor.stored}, which is not supported "
            f"(known: {', '.join(STORED)})"
        )
    if not np.isfinite(tensor.values()).all():
        raise UserError(f"{path}: {tensor.key!r} has values that are no numbers; refused")
