"""Prompt embeddings: the text encoder, and a cache on disk so that it runs once a prompt."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine import Session
from ..engine.folders import write_whole
from .text import Tokens

log = logging.getLogger(__name__)

Embedding = NDArray[np.float32]
MAX_CACHE_BYTES = 256 << 20
DIGEST_BYTES = 32


def encode(session: Session, tokens: Tokens) -> Embedding:
    """Run the text encoder on one prompt: float32 (tokens, embedding_dim)."""
    ids = tokens.ids[None]
    outputs = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    embedding: Embedding = np.asarray(outputs["prompt_embeds"])[0]
    return embedding


def pad(embedding: Embedding, length: int) -> Embedding:
    """Zeros up to `length` tokens, with a batch axis: what Wan's denoiser was trained to see.

    Source: diffusers `WanPipeline._get_t5_prompt_embeds`.
    """
    padded = np.zeros((1, length, embedding.shape[1]), np.float32)
    padded[0, : len(embedding)] = embedding
    return padded


class EmbeddingCache:
    """Embeddings by hash, one small file each: a sha256, then float32 (tokens, embedding_dim).

    The oldest go when the folder grows too large.

    A cache that cannot be read or written never stops a run: it is only slower.
    """

    def __init__(self, folder: Path, encoder_identity: str, embedding_dim: int) -> None:
        self.folder = folder
        self.embedding_dim = embedding_dim
        self.encoder_identity = encoder_identity

    def get(self, tokens: Tokens, compute: Callable[[], Embedding]) -> Embedding:
        """The embedding of these tokens, computed if it is not there."""
        path = self._path(tokens)
        found = _read(path, (len(tokens.ids), self.embedding_dim))
        if found is not None:
            return found
        embedding = compute()
        try:
            self._write(path, embedding)
        except OSError as error:
            log.info("prompt embedding not cached: %s", error)
        return embedding

    def _path(self, tokens: Tokens) -> Path:
        key = hashlib.sha256(self.encoder_identity.encode() + b"\0" + tokens.ids.tobytes())
        return self.folder / f"{key.hexdigest()}.embedding"

    def _write(self, path: Path, embedding: Embedding) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(embedding.nbytes)
        data = np.ascontiguousarray(embedding, np.float32).tobytes()
        write_whole(path, hashlib.sha256(data).digest() + data, sync=False)

    def _make_room(self, wanted: int) -> None:
        entries = sorted(
            ((p.stat().st_mtime, p.stat().st_size, p) for p in self.folder.glob("*")),
        )
        used = sum(size for _, size, _ in entries) + wanted
        for _, size, path in entries:
            if used <= MAX_CACHE_BYTES:
                break
            path.unlink(missing_ok=True)
            used -= size


def _read(path: Path, shape: tuple[int, int]) -> Embedding | None:
    """A cached embedding, or None where there is none or a damaged one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(DIGEST_BYTES)
            data = stream.read(4 * shape[0] * shape[1] + 1)
    except OSError:
        return None
    if len(data) != 4 * shape[0] * shape[1] or head != hashlib.sha256(data).digest():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return np.frombuffer(data, np.float32).reshape(shape)
