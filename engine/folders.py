"""Folders and files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

PARTIAL, OLD = ".partial", ".old"
RANDOM = "?" * 8
"""What `tempfile` puts between the name and the suffix."""


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the target's place at the end, or leaves nothing.

    What killed processes left of the same target goes first, and what they had moved away from its
    place goes back there.
    """
    _clear_up(target)
    try:
        with _new_folder(target, PARTIAL) as work:
            yield work
            _sync(work)
            work.chmod(0o777 & ~_umask())
            _replace(work, target)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"no space left for {target}; nothing was written, free some first"
        ) from error


def write_whole(path: Path, data: bytes, *, sync: bool = True) -> None:
    """A file, of which nobody sees a part.

    Args:
        path: of the file; one that is there is replaced.
        data: its content.
        sync: bring it to the disk first, so that it is whole after a power cut too.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _clear_up(target: Path) -> None:
    """Remove folders that nobody writes to any more, after what they hold of the target is back."""
    for suffix in (OLD, PARTIAL):
        for left in target.parent.glob(f".{glob.escape(target.name)}.{RANDOM}{suffix}"):
            with suppress(OSError), _holding(left) as held:
                if held:
                    if suffix == OLD:
                        _put_back(left, target)
                    shutil.rmtree(left)


@contextmanager
def _new_folder(target: Path, suffix: str) -> Iterator[Path]:
    """A folder of this process beside the target, removed at the end if it is still there."""
    while True:
        prefix = f".{target.name}."
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=target.parent))
        with _holding(folder, wait=True):
            if not folder.exists():
                continue  # another process cleared up before it was held
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _holding(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder, until this process ends at the latest; whether that could be had."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        held = True
    except OSError:  # another process's, or a file system without locks
        held = False
    try:
        yield held
    finally:
        os.close(descriptor)


def _replace(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    with _new_folder(target, OLD) as old:
        try:
            target.rename(old / target.name)
            work.rename(target)
        finally:
            _put_back(old, target)


def _put_back(old: Path, target: Path) -> None:
    """Let what was moved away return to its place, if nothing new is there."""
    moved = old / target.name
    if moved.exists() and not target.exists():
        moved.rename(target)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
