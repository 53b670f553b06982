"""The sha256 of files, remembered for large ones: a checkpoint of 28 GB is not read twice.

What is remembered of a file is signed with a key of this user's, and holds as long as the file's
place, length, inode, and times of writing and of change are the same. No program can set the last.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import msgspec

from ..cache import cache_folder
from ..errors import UserError
from .folders import write_whole
from .signing import own_key, sign

LARGE = 64 << 20
"""Bytes; a smaller file is read in less time than it takes to notice."""

SETTLED = 2.0
"""Seconds; a file that was changed more recently may change again within its clock's resolution."""

KEY = ".key"


class _Remembered(msgspec.Struct, frozen=True):
    """A file as it was, its digest, and the signature of both."""

    place: str
    facts: tuple[int, ...]
    sha256: str
    hmac: str = ""

    def signature(self, key: bytes) -> str:
        """Of all the rest."""
        return sign(key, msgspec.json.encode(msgspec.structs.replace(self, hmac="")))


def digest(path: Path, *, reread: bool = False) -> str:
    """The sha256 of a file, in hex.

    Args:
        path: of the file.
        reread: read it, whatever is remembered.
    """
    if path.stat().st_size < LARGE:
        return _read(path)
    place, facts = str(path.resolve()), _facts(path)
    known = None if reread else _recall(place, facts)
    if known is not None:
        return known
    found = _read(path)
    if _facts(path) == facts and time.time() - max(facts[-2:]) / 1e9 > SETTLED:
        _remember(_Remembered(place, facts, found))
    return found


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _facts(path: Path) -> tuple[int, ...]:
    """What changes when a file does: device, inode, length, times of writing and of change."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _note(place: str) -> Path:
    name = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return cache_folder("digests") / f"{name[:32]}.json"


def _recall(place: str, facts: tuple[int, ...]) -> str | None:
    """What is remembered of a file, if it is still the same one and nobody else wrote the note."""
    with contextlib.suppress(OSError, UserError, msgspec.MsgspecError):
        note = _note(place)
        found = msgspec.json.decode(note.read_bytes(), type=_Remembered)
        if (found.place, found.facts) == (place, facts):
            key = own_key(note.parent / KEY)
            return found.sha256 if found.signature(key) == found.hmac else None
    return None


def _remember(found: _Remembered) -> None:
    """Write a note; where that is not possible the file is read again next time."""
    with contextlib.suppress(OSError, UserError):
        note = _note(found.place)
        note.parent.mkdir(parents=True, exist_ok=True)
        signature = found.signature(own_key(note.parent / KEY))
        write_whole(note, msgspec.json.encode(msgspec.structs.replace(found, hmac=signature)))
