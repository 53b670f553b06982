"""Where a bundle may be written."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from .manifest import FILE_NAME


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a place that a bundle cannot be written to.

    Raises:
        UserError: something is there and may not be overwritten, or the folder above is missing.
    """
    if not target.parent.is_dir():
        raise UserError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise UserError(f"{target} exists; choose another place or pass --overwrite")
    empty = target.is_dir() and not any(target.iterdir())
    if target.is_symlink() or not (empty or (target / FILE_NAME).is_file()):
        raise UserError(f"{target} is not a bundle; it is not overwritten, remove it yourself")
