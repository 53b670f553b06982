from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutoscope.errors import UserError
from mutoscope.runtime.video import probe, read_frames, read_metadata, reader
from mutoscope.runtime.video.reader import ClipInfo
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
WriteClip = Callable[..., Path]
READERS = pytest.mark.parametrize("read", [probe, read_frames, read_metadata])
Read = Callable[[str | Path], ClipInfo | Clip | dict[str, str]]


def refusal(read: Read, path: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value)


@READERS
def test_nothing_there(tmp_path: Path, read: Read) -> None:
    for name in ("c.mp4", "c.png", "c"):
        assert refusal(read, tmp_path / name) == f"there is no clip at {tmp_path / name}"


@READERS
def test_folder_without_frames(tmp_path: Path, read: Read) -> None:
    (tmp_path / "x.png").touch()
    assert refusal(read, tmp_path) == f"{tmp_path} has no frames (0001.png and so on)"


@READERS
def test_unknown_suffix(tmp_path: Path, read: Read) -> None:
    assert ".avi is not supported; use .mp4" in refusal(read, tmp_path / "c.avi")


@READERS
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_not_a_clip(tmp_path: Path, read: Read, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    path.write_bytes(b"not a clip" * 100)
    said = "End of file" if suffix == ".gif" else "Invalid data found when processing input"
    assert refusal(read, path) == f"{path} cannot be read: {said}"


def test_playlist_is_not_followed(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    """FFmpeg would open the file that the content names, had it the choice of the format."""
    secret = write_clip(tmp_path / "secret.mp4", clip)
    path = tmp_path / "c.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    with av.open(str(path)) as followed:
        assert followed.format.name == "concat"
    assert refusal(read_frames, path).startswith(f"{path} cannot be read: ")


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "c.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert refusal(probe, path) == f"{path} cannot be read: it has no pictures"


def test_frames_of_two_sizes(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    folder = write_clip(tmp_path / "c", clip[:1])
    write_clip(folder / "0002.png", clip[:1, :32])
    assert refusal(read_frames, folder) == (
        f"{folder} cannot be read: its frames are not all of one size"
    )


def test_too_long(
    tmp_path: Path, clip: Clip, write_clip: WriteClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "c.mp4", clip)
    monkeypatch.setattr(reader, "MAX_READ_BYTES", clip.nbytes - 1)
    assert refusal(read_frames, path) == (
        f"{path} is too long: its frames take more than {clip.nbytes - 1:,} bytes"
    )
    monkeypatch.setattr(reader, "MAX_READ_BYTES", clip.nbytes)
    assert read_frames(path).shape == clip.shape


def test_frames_of_a_folder_are_in_order(tmp_path: Path, write_clip: WriteClip) -> None:
    """By number, not by name; other files do not matter."""
    folder = tmp_path / "c"
    folder.mkdir()
    for number in (10000, 2, 9999):
        frame = np.full((1, 4, 4, 3), number % 256, np.uint8)
        write_clip(folder / f"{number:04}.png", frame)
    (folder / "clip.json").touch()
    assert read_frames(folder)[:, 0, 0, 0].tolist() == [2, 9999 % 256, 10000 % 256]
    assert probe(folder).frames == 3


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(["c.mp4", "c.mkv", "c.gif", "c.png"]))
def test_damage_gives_clean_errors(
    tmp_path_factory: pytest.TempPathFactory,
    clip: Clip,
    write_clip: WriteClip,
    data: st.DataObject,
    name: str,
) -> None:
    path = tmp_path_factory.mktemp("damaged") / name
    write_clip(path, clip[:1])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (probe, read_frames, read_metadata):
        try:
            read(path)
        except UserError as error:
            assert str(error).startswith(f"{path} cannot be read: ")


def test_importing_needs_no_ffmpeg() -> None:
    """It takes 50 ms that `import mutoscope` does not have."""
    code = "import sys, mutoscope.runtime.video; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
