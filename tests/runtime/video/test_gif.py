from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutoscope.runtime.video import probe, read_frames
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
WriteClip = Callable[..., Path]


@pytest.mark.parametrize("fps", [12, 16, 50, 1])
def test_gif(
    tmp_path: Path,
    clip: Clip,
    write_clip: WriteClip,
    psnr: Callable[[Clip, Clip], float],
    fps: int,
) -> None:
    path = write_clip(tmp_path / "c.gif", clip, fps=fps)
    info = probe(path)
    assert (info.codec, info.width, info.height, info.frames) == ("gif", 96, 64, 9)
    assert info.duration == pytest.approx(9 / fps, abs=0.01)  # GIF counts hundredths of a second
    assert info.fps == pytest.approx(fps, rel=0.02)
    assert psnr(read_frames(path), clip) > 33  # 256 colours for a clip that has thousands


def test_gif_loops_for_ever(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    data = write_clip(tmp_path / "c.gif", clip).read_bytes()
    assert b"NETSCAPE2.0\x03\x01\x00\x00\x00" in data


def test_one_frame(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    assert len(read_frames(write_clip(tmp_path / "c.gif", clip[:1]))) == 1


def test_few_colours_are_exact(tmp_path: Path, write_clip: WriteClip) -> None:
    clip = np.zeros((4, 32, 48, 3), np.uint8)
    for index, frame in enumerate(clip):
        frame[:, 8 * index :] = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30)][index]
    assert np.array_equal(read_frames(write_clip(tmp_path / "c.gif", clip)), clip)


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """300 frames of 640x360 are 207 MB; the room above a short clip's peak is a tenth of that."""
    code = """
import resource, sys
import numpy as np
from mutoscope.runtime.video import open_writer
frames = int(sys.argv[2])
with open_writer(sys.argv[1], width=640, height=360, fps=12, frames=frames) as writer:
    for step in range(frames):
        writer.write(np.full((360, 640, 3), step % 200, np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for frames in (10, 300):
        command = [sys.executable, "-P", "-c", code, f"{tmp_path}/{frames}.gif", str(frames)]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 20_000
