"""A file or folder that appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Protocol

from ...errors import UserError
from .failures import file_errors

SIDE_FILE = "clip.json"


class Output(Protocol):
    """A place that is written beside its name and takes the name when it is whole."""

    path: Path

    def begin(self) -> Path:
        """Make the temporary file or folder, in the same folder as `path`, and give its path."""

    def commit(self) -> None:
        """Bring the temporary to the disk and give it its name."""

    def discard(self) -> None:
        """Remove the temporary, where there is one."""


class OutputFile:
    """A file to be written.

    Raises:
        UserError: the name is taken and `overwrite` is not set, or nothing can be written there.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite
        self._part: Path | None = None
        _check_parent(path)
        if _exists(path):
            if path.is_dir():
                raise UserError(f"{path} is a folder; choose another name")
            if not overwrite:
                raise _taken(path)

    def begin(self) -> Path:
        """Make the temporary file."""
        self._part = part = _beside(self.path)
        with file_errors(self.path):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        return part

    def commit(self) -> None:
        """Sync the temporary file and give it its name.

        Raises:
            UserError: something else took the name meanwhile, or the system refuses.
        """
        assert self._part is not None
        with file_errors(self.path):
            sync(self._part)
            if self._overwrite:
                self._part.replace(self.path)
            else:
                _rename_new(self._part, self.path)
            self._part = None
            sync(self.path.parent)

    def remove(self) -> None:
        """Remove the file that has the name, where there is one.

        Raises:
            UserError: the system refuses.
        """
        with file_errors(self.path):
            self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None


class OutputFolder:
    """A folder of frames to be written.

    Raises:
        UserError: the folder has files and `overwrite` is not set, or some that are not frames; or
            nothing can be written there.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite
        self._part: Path | None = None
        _check_parent(path)
        if _exists(path):
            _check_replaceable(path, overwrite)

    def begin(self) -> Path:
        """Make the temporary folder."""
        self._part = part = _beside(self.path)
        with file_errors(self.path):
            part.mkdir()
        return part

    def commit(self) -> None:
        """Sync the temporary folder and give it its name.

        Raises:
            UserError: something else took the name meanwhile, or the system refuses.
        """
        assert self._part is not None
        with file_errors(self.path):
            sync(self._part)
            old = self._move_old_away()
            try:
                self._part.rename(self.path)
            except OSError as error:
                if old:
                    old.rename(self.path)
                if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                    raise _taken(self.path) from None
                raise
            self._part = None
            sync(self.path.parent)
        if old:
            shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove the temporary folder."""
        if self._part is not None:
            shutil.rmtree(self._part, ignore_errors=True)
            self._part = None

    def _move_old_away(self) -> Path | None:
        if not (self._overwrite and _exists(self.path)):
            return None
        _check_replaceable(self.path, overwrite=True)
        old = _beside(self.path)
        return self.path.rename(old)


def sync(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_parent(path: Path) -> None:
    if path.name in {"", ".."} or "\0" in path.name:
        raise UserError(f"{str(path)!r} is no name for a clip")
    parent = path.parent
    with file_errors(path):
        if not parent.exists():
            raise UserError(f"the folder {parent} does not exist; make it first")
        if not parent.is_dir():
            raise UserError(f"{parent} is not a folder; choose another place for {path.name}")
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        raise UserError(f"no permission to write into {parent}; choose another folder")


def _exists(path: Path) -> bool:
    """Whether the name is taken, by a broken link too.

    Raises:
        UserError: the system does not take the name, for one because it is too long.
    """
    with file_errors(path):
        try:
            path.lstat()
        except FileNotFoundError:
            return False
        return True


def _check_replaceable(path: Path, overwrite: bool) -> None:
    if not path.is_dir():
        raise UserError(f"{path} exists and is not a folder; choose another name")
    names = sorted(entry.name for entry in path.iterdir())
    if names and not overwrite:
        raise _taken(path)
    for name in names:
        if name != SIDE_FILE and not is_frame(name):
            raise UserError(
                f"{path} holds {name}, which is no frame of a clip, and is not overwritten; "
                "choose another folder"
            )


def is_frame(name: str) -> bool:
    """Whether a file of that name is a frame in a folder of frames: 0001.png and so on."""
    stem, _, suffix = name.partition(".")
    return suffix == "png" and stem.isascii() and stem.isdigit()


def _taken(path: Path) -> UserError:
    return UserError(f"{path} exists; choose another name or pass --overwrite")


def _beside(path: Path) -> Path:
    return path.absolute().with_name(f".mutoscope-{os.urandom(8).hex()}")


def _rename_new(part: Path, path: Path) -> None:
    """Rename without replacing: a link fails where a name is taken, a rename would not.

    File systems without links (FAT) get a check and a rename.
    """
    try:
        os.link(part, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        if _exists(path):
            raise _taken(path) from None
        part.rename(path)
        return
    part.unlink()
