"""Where a clip goes, and the way there: frames → encoder thread → file, with its record beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .record import Record


@dataclass(frozen=True)
class Output:
    """A file to write.

    Attributes:
        path: its suffix says the container: .mp4, .mkv, .webm, .gif, .png; a folder takes PNGs.
        codec: `h264`, `hevc`, `av1` or `vp9`; by default the container's usual one.
        encoder: `auto` takes hardware where it works, `software` never; or FFmpeg's name of one.
        quality: 0 to 100, higher is better; by default the codec's usual quality.
        overwrite: whether an existing file may be replaced.
        metadata: whether prompt and settings go into the file, and the record into a .json beside.
    """

    path: Path
    codec: str | None = None
    encoder: str = "auto"
    quality: int | None = None
    overwrite: bool = False
    metadata: bool = True
