"""Contact sheets: a row a clip, some of its frames side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.folders import write_whole

Clip = NDArray[np.uint8]


def sheet(rows: Sequence[Sequence[Clip]], columns: int = 6) -> Clip:
    """Clips (frames, height, width, 3), those of a row beside each other.

    Of each clip `columns` frames are shown, evenly over its length; all are of one size.
    """
    return np.concatenate([np.concatenate([_strip(c, columns) for c in row], 1) for row in rows])


def write_png(path: Path, picture: Clip) -> None:
    """Write a picture (height, width, 3)."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    write_whole(path, data.getvalue())


def _strip(clip: Clip, columns: int) -> Clip:
    chosen = np.linspace(0, len(clip) - 1, min(columns, len(clip))).round().astype(int)
    return np.concatenate(list(clip[chosen]), 1)
