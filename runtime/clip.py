"""A finished clip."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .output import Destination, Output
from .record import Record


class Clip:
    """Frames, in memory or in a file, and the account of how they were made.

    Attributes:
        path: the file it was written to as it was made; `None` while it is only in memory.
        record: what was done: settings, versions, hashes, seconds of each stage.
    """

    def __init__(
        self, record: Record, *, frames: NDArray[np.uint8] | None = None, path: Path | None = None
    ) -> None:
        self.record = record
        self.path = path
        self._frames = frames

    @property
    def frames(self) -> NDArray[np.uint8]:
        """Uint8 (frames, height, width, 3), RGB; read back from the file if it went straight there.

        Raises:
            UserError: the file is gone or damaged.
        """
        if self._frames is None:
            from .video import read_frames

            assert self.path is not None
            self._frames = read_frames(self.path)
        return self._frames

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self.record.settings["fps"])

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the frames to a file, whole or not at all; what kind, the suffix says.

        Args:
            path: e.g. `clip.mp4`, `clip.webm`, `clip.gif`, or a folder for PNGs.
            **options: the other fields of `Output`, e.g. `overwrite=True`.

        Raises:
            UserError: it cannot be written so.
        """
        account = dataclasses.replace(self.record, seconds=dict(self.record.seconds))
        return Destination(Output(path, **options), account).write([self.frames])
