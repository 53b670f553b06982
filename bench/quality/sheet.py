"""The contact sheet: a row a prompt, a column a setting, the reference's first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...runtime.video import open_writer
from ..tiles import BORDER, strip, strip_size
from .compare import Comparison

SHOWN = 5
"""So many frames of each clip."""

LONGEST = 128
"""Pixels of a frame's longer side on the sheet, at most."""

GAP = 4


class ContactSheet:
    """A picture that fills while a comparison runs, and is written when that is done.

    Raises:
        UserError: the place cannot be written to, or the picture would be too large.
    """

    def __init__(self, path: Path, comparison: Comparison, *, overwrite: bool) -> None:
        if path.suffix.lower() != ".png":
            raise UserError(f"{path}: a contact sheet is a .png")
        settings = comparison.variants[0].settings
        self._cell = strip_size(settings.frames, settings.height, settings.width, SHOWN, LONGEST)
        rows, columns = len(comparison.prompts), len(comparison.variants)
        height = rows * (self._cell[0] + GAP) - GAP
        width = columns * (self._cell[1] + GAP) - GAP
        self._writer = open_writer(
            path, width=width, height=height, frames=1, fps=1, overwrite=overwrite
        )
        self._picture = np.full((height, width, 3), BORDER, np.uint8)

    def put(self, column: int, row: int, frames: NDArray[np.uint8]) -> None:
        """Show a clip, (frames, height, width, 3)."""
        height, width = self._cell
        top, left = row * (height + GAP), column * (width + GAP)
        self._picture[top : top + height, left : left + width] = strip(frames, SHOWN, LONGEST)

    def write(self) -> Path:
        """Write the picture, whole or not at all."""
        with self._writer as writer:
            writer.write(self._picture)
        return self._writer.path
