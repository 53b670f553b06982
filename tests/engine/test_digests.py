"""Digests of large files, remembered as long as the files are the same."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from mutoscope.cache import cache_folder
from mutoscope.engine import digests
from mutoscope.engine.digests import digest


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The files that were read; each counts as large, and as settled at once."""
    monkeypatch.setenv("MUTOSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 1)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    seen: list[Path] = []
    original = digests._read
    monkeypatch.setattr(digests, "_read", lambda path: (seen.append(path), original(path))[1])
    return seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.data"
    path.write_bytes(b"one")
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_read_once(read: list[Path], file: Path) -> None:
    assert digest(file) == digest(file) == sha256(b"one")
    assert read == [file]
    assert digest(file, reread=True) == sha256(b"one")
    assert len(read) == 2


def test_a_change_of_content_is_seen(read: list[Path], file: Path) -> None:
    """Even where length and time of writing are what they were."""
    digest(file)
    written = file.stat().st_mtime_ns
    file.write_bytes(b"two")
    os.utime(file, ns=(written, written))
    assert digest(file) == sha256(b"two")


def test_another_file_in_its_place_is_seen(read: list[Path], file: Path, tmp_path: Path) -> None:
    digest(file)
    other = tmp_path / "other"
    other.write_bytes(b"two")
    other.replace(file)
    assert digest(file) == sha256(b"two")


@pytest.mark.parametrize(
    "damage",
    [lambda note: note.replace(sha256(b"one"), sha256(b"two")), lambda note: "{", str.upper],
)
def test_a_note_that_someone_changed_is_not_believed(
    read: list[Path], file: Path, damage: object
) -> None:
    digest(file)
    (note,) = cache_folder("digests").glob("*.json")
    assert callable(damage)
    note.write_text(damage(note.read_text()))
    assert digest(file) == sha256(b"one")
    assert len(read) == 2


def test_what_was_just_written_is_not_remembered(
    read: list[Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED", 60.0)
    digest(file)
    digest(file)
    assert len(read) == 2
    monkeypatch.setattr(time, "time", lambda: file.stat().st_mtime + 61)
    digest(file)
    digest(file)
    assert len(read) == 3


def test_without_a_cache_files_are_read(read: list[Path], file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"no folder")
    assert digest(file) == digest(file) == sha256(b"one")
    assert len(read) == 2


def test_small_files_leave_no_notes(
    read: list[Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 4)
    digest(file)
    assert not cache_folder("digests").exists()
