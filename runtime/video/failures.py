"""The one place where errors of the system and of FFmpeg become Mutoscope's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import MutoscopeError, UserError


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Say what went wrong while `path` was written.

    FFmpeg's own errors of files are `OSError`s too, its others are not.

    Raises:
        UserError: the disk is full, the folder is read-only, the file is too large, and so on.
        MutoscopeError: FFmpeg failed in another way.
    """
    try:
        yield
    except OSError as error:
        raise file_error(path, error) from error
    except Exception as error:
        if not _is_native(error):
            raise
        raise MutoscopeError(f"cannot write {path}: {reason(error)}") from error


@contextmanager
def codec_errors(name: str) -> Iterator[None]:
    """Say which encoder or decoder failed.

    Raises:
        MutoscopeError: FFmpeg reported an error.
    """
    try:
        yield
    except Exception as error:
        if not _is_native(error):
            raise
        raise MutoscopeError(f"{name} failed: {reason(error)}") from error


def file_error(path: Path, error: OSError) -> UserError:
    """What the user is told when the system refuses to write `path`."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(
            f"the disk at {mount_of(path)} is full, {path} was not written; "
            "free some space or write elsewhere"
        )
    if error.errno == errno.EFBIG:
        return UserError(
            f"{path} would be larger than a file may be here and was not written; "
            "lower the quality or write elsewhere"
        )
    return UserError(f"cannot write {path}: {error.strerror}")


def mount_of(path: Path) -> Path:
    """The mount point of the file system that `path` lies in."""
    folder = path.absolute().parent.resolve()
    while not os.path.ismount(folder):
        folder = folder.parent
    return folder


def reason(error: Exception) -> str:
    """FFmpeg's words for its error."""
    return str(getattr(error, "strerror", None) or error)


def _is_native(error: Exception) -> bool:
    import av

    return isinstance(error, av.FFmpegError)
