"""The cache of prompt embeddings: it is quicker, and never wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mutoscope.runtime import embeddings
from mutoscope.runtime.embeddings import EmbeddingCache, pad
from mutoscope.runtime.text import Tokens


def tokens(*ids: int) -> Tokens:
    return Tokens(np.asarray(ids, np.int64), "")


class Encoder:
    """Counts how often it is asked."""

    runs = 0

    def __call__(self) -> np.ndarray:
        self.runs += 1
        return np.arange(6, dtype=np.float32).reshape(3, 2)


def test_computes_once(tmp_path: Path) -> None:
    encoder, cache = Encoder(), EmbeddingCache(tmp_path / "new", "encoder", 2)
    first = cache.get(tokens(1, 2, 3), encoder)
    second = EmbeddingCache(tmp_path / "new", "encoder", 2).get(tokens(1, 2, 3), encoder)
    assert encoder.runs == 1
    np.testing.assert_array_equal(first, second)
    assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".embedding"]


def test_other_tokens_or_encoder_compute_again(tmp_path: Path) -> None:
    encoder = Encoder()
    EmbeddingCache(tmp_path, "encoder", 2).get(tokens(1, 2, 3), encoder)
    EmbeddingCache(tmp_path, "encoder", 2).get(tokens(1, 2, 4), encoder)
    EmbeddingCache(tmp_path, "other", 2).get(tokens(1, 2, 3), encoder)
    assert encoder.runs == 3


@pytest.mark.parametrize("damage", [b"", b"junk", bytes(32 + 24), bytes(1 << 16)])
def test_damaged_entry_computes_again(tmp_path: Path, damage: bytes) -> None:
    encoder, cache = Encoder(), EmbeddingCache(tmp_path, "encoder", 2)
    cache.get(tokens(1, 2, 3), encoder)
    next(tmp_path.iterdir()).write_bytes(damage)
    assert cache.get(tokens(1, 2, 3), encoder).shape == (3, 2)
    assert encoder.runs == 2


def test_unwritable_folder_is_only_slower(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    encoder, cache = Encoder(), EmbeddingCache(tmp_path / "file" / "below", "encoder", 2)
    cache.get(tokens(1, 2, 3), encoder)
    cache.get(tokens(1, 2, 3), encoder)
    assert encoder.runs == 2


def test_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, cache = Encoder(), EmbeddingCache(tmp_path, "encoder", 2)
    cache.get(tokens(1, 1, 1), encoder)
    size = next(tmp_path.iterdir()).stat().st_size
    os.utime(next(tmp_path.iterdir()), (0, 0))
    monkeypatch.setattr(embeddings, "MAX_CACHE_BYTES", 2 * size)
    cache.get(tokens(2, 2, 2), encoder)
    cache.get(tokens(3, 3, 3), encoder)
    assert len(list(tmp_path.iterdir())) == 2
    cache.get(tokens(2, 2, 2), encoder)
    assert encoder.runs == 3
    cache.get(tokens(1, 1, 1), encoder)
    assert encoder.runs == 4


def test_pad() -> None:
    padded = pad(np.ones((3, 2), np.float32), 5)
    assert padded.shape == (1, 5, 2)
    assert padded.sum(axis=2).tolist() == [[2, 2, 2, 0, 0]]
