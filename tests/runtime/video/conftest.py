"""A small clip, and a way to write one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.runtime.video import ClipWriter, open_writer
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
MakeClip = Callable[..., Clip]
WriteClip = Callable[..., Path]


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """Smooth colours that drift, and a red disc that crosses them."""

    def make(frames: int = 9, height: int = 64, width: int = 96) -> Clip:
        y, x = np.mgrid[0:height, 0:width]
        clip = np.empty((frames, height, width, 3), np.uint8)
        for index, frame in enumerate(clip):
            frame[..., 0] = 40 + 120 * x / width
            frame[..., 1] = 100 + 60 * np.sin(y / 20 + index / 10)
            frame[..., 2] = 180 - 100 * y / height
            disc = (x - width * (index + 1) / (frames + 1)) ** 2 + (y - height / 2) ** 2
            frame[disc < (height / 5) ** 2] = (220, 30, 30)
        return clip

    return make


@pytest.fixture(scope="session")
def clip(make_clip: MakeClip) -> Clip:
    return make_clip()


@pytest.fixture(scope="session")
def writer() -> Callable[..., ClipWriter]:
    """A writer for a clip at 12 frames a second, in software unless told otherwise."""

    def make(path: str | Path, clip: Clip, **options: Any) -> ClipWriter:
        frames, height, width, _ = clip.shape
        known = {"fps": 12, "encoder": "software", **options}
        return open_writer(path, width=width, height=height, frames=frames, **known)

    return make


@pytest.fixture(scope="session")
def write_clip(writer: Callable[..., ClipWriter]) -> WriteClip:
    def write(path: str | Path, clip: Clip, **options: Any) -> Path:
        with writer(path, clip, **options) as opened:
            for frame in clip:
                opened.write(frame)
        return Path(path)

    return write


@pytest.fixture(scope="session")
def psnr() -> Callable[[Clip, Clip], float]:
    """Peak signal to noise ratio in dB."""

    def measure(one: Clip, other: Clip) -> float:
        error = np.mean((one.astype(np.float64) - other) ** 2)
        return float(10 * np.log10(255**2 / error)) if error else float("inf")

    return measure
