from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.runtime.video import (
    CancelledError,
    ClipWriter,
    open_writer,
    probe,
    read_frames,
    read_metadata,
)
from mutoscope.runtime.video.colour import RgbConverter, YuvConverter
from mutoscope.runtime.video.encoders import ENCODERS
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
WriteClip = Callable[..., Path]
Psnr = Callable[[Clip, Clip], float]
Writer = Callable[..., ClipWriter]

VIDEOS = [
    ("clip.mp4", "h264", "libx264"),
    ("clip.mp4", "hevc", "libx265"),
    ("clip.mp4", "av1", "libsvtav1"),
    ("clip.mkv", "h264", "libx264"),
    ("clip.mkv", "hevc", "libx265"),
    ("clip.mkv", "av1", "libsvtav1"),
    ("clip.webm", "vp9", "libvpx-vp9"),
    ("clip.webm", "av1", "libsvtav1"),
]
METADATA = {
    "title": 'a "red" circle é 中 = ; \\ #',
    "comment": json.dumps({"seed": 7, "prompt": "two\nlines", "long": "x" * 100_000}),
}


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def digest(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def in_python(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(("name", "codec", "encoder"), VIDEOS)
def test_video(
    tmp_path: Path,
    clip: Clip,
    write_clip: WriteClip,
    psnr: Psnr,
    name: str,
    codec: str,
    encoder: str,
) -> None:
    path = write_clip(tmp_path / name, clip, codec=codec, metadata=METADATA)
    info = probe(path)
    assert (info.codec, info.encoder) == (codec, encoder)
    assert (info.width, info.height, info.frames) == (96, 64, 9)
    assert info.fps == 12
    assert info.duration == pytest.approx(9 / 12, abs=0.001)  # containers count milliseconds
    assert info.pix_fmt == "yuv420p"
    assert info.colour_range == "tv"
    assert {info.colour_space, info.colour_primaries, info.colour_transfer} == {"bt709"}
    assert info.metadata == METADATA
    assert read_metadata(path) == METADATA
    assert names(tmp_path) == [name]
    # 39.1 to 44.8 dB to what is left by halving the colour resolution, which alone takes 33 dB.
    to_yuv, to_rgb = YuvConverter(96, 64, "yuv420p"), RgbConverter()
    assert psnr(read_frames(path), np.stack([to_rgb(to_yuv(frame)) for frame in clip])) > 38


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_ten_bits(
    tmp_path: Path, clip: Clip, write_clip: WriteClip, psnr: Psnr, codec: str
) -> None:
    paths = [write_clip(tmp_path / f"{d}.mkv", clip, codec=codec, depth=d) for d in (8, 10)]
    assert [probe(path).pix_fmt for path in paths] == ["yuv420p", "yuv420p10le"]
    shallow, deep = map(read_frames, paths)
    assert psnr(deep, shallow) > 38


def test_layout_of_hardware_encoders(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    """libx264 takes NV12 as well, and stores the same picture."""
    for name, pix_fmt in (("a.mp4", "yuv420p"), ("b.mp4", "nv12")):
        opened = writer(tmp_path / name, clip)
        opened.encoder = dataclasses.replace(opened.encoder, pix_fmt=pix_fmt)
        with opened:
            for frame in clip:
                opened.write(frame)
    assert np.array_equal(read_frames(tmp_path / "a.mp4"), read_frames(tmp_path / "b.mp4"))


@pytest.mark.parametrize("name", ["frames/", "frames", "frames.v1/"])
def test_folder_of_pngs(tmp_path: Path, clip: Clip, write_clip: WriteClip, name: str) -> None:
    path = write_clip(f"{tmp_path}/{name}", clip, metadata=METADATA)
    assert names(path) == [f"000{n}.png" for n in range(1, 10)]
    info = probe(f"{tmp_path}/{name}")
    assert (info.codec, info.width, info.height, info.frames) == ("png", 96, 64, 9)
    assert (info.fps, info.duration, info.pix_fmt) == (None, None, "rgb24")
    assert info.metadata == METADATA
    assert np.array_equal(read_frames(f"{tmp_path}/{name}"), clip)


def test_png(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "frame.png", clip[:1], metadata=METADATA)
    info = probe(path)
    assert (info.codec, info.width, info.height, info.frames) == ("png", 96, 64, 1)
    assert (info.fps, info.duration, info.pix_fmt) == (None, None, "rgb24")
    assert read_metadata(path) == METADATA
    assert np.array_equal(read_frames(path), clip[:1])


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.webm"])
@pytest.mark.parametrize("fps", [12, 16, 23.976, 29.97, 7.5])
def test_rate(tmp_path: Path, clip: Clip, write_clip: WriteClip, name: str, fps: float) -> None:
    info = probe(write_clip(tmp_path / name, clip, fps=fps))
    exact = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001)}.get(fps, Fraction(fps))
    assert info.fps == exact
    assert info.duration == pytest.approx(float(9 / exact), abs=0.001)


def test_custom_tags(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    tags = {"title": "red", "mutoscope_seed": "7"}
    for name in ("c.mp4", "c.mkv", "c.webm"):
        assert read_metadata(write_clip(tmp_path / name, clip, metadata=tags)) == tags


def test_no_metadata_unless_given(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    for name in ("c.mp4", "c.mkv", "c.webm", "c.gif", "c/"):
        assert read_metadata(write_clip(tmp_path / name, clip)) == {}


def test_mp4_can_be_played_while_it_loads(
    tmp_path: Path, clip: Clip, write_clip: WriteClip
) -> None:
    data = write_clip(tmp_path / "c.mp4", clip).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_hevc_in_mp4_is_tagged_for_apple(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    data = write_clip(tmp_path / "c.mp4", clip, codec="hevc").read_bytes()
    assert b"hvc1" in data
    assert b"hev1" not in data


@pytest.mark.parametrize(("name", "codec", "encoder"), VIDEOS[:3] + VIDEOS[6:7])
def test_colours(
    tmp_path: Path, write_clip: WriteClip, name: str, codec: str, encoder: str
) -> None:
    """Flat patches come back within 3 of 255: steps of YUV are up to 2 in RGB, coding adds 1."""
    levels = list(itertools.product([0, 128, 255], repeat=3))
    height = max(32, ENCODERS[encoder].least_side)
    clip = np.zeros((3, height, 32 * len(levels), 3), np.uint8)
    for index, colour in enumerate(levels):
        clip[:, :, 32 * index : 32 * index + 32] = colour
    back = read_frames(write_clip(tmp_path / name, clip, codec=codec, quality=100))
    middles = back[:, 8:24].reshape(3, 16, len(levels), 32, 3)[..., 8:24, :].astype(int)
    assert np.abs(middles - np.array(levels)[:, None]).max() <= 3


@pytest.mark.parametrize(("name", "codec", "encoder"), VIDEOS[:3] + VIDEOS[6:7])
def test_higher_quality_is_better_and_larger(
    tmp_path: Path,
    make_clip: Callable[..., Clip],
    write_clip: WriteClip,
    psnr: Psnr,
    name: str,
    codec: str,
    encoder: str,
) -> None:
    clip = make_clip(frames=5)
    clip += np.random.default_rng(0).integers(0, 12, clip.shape, np.uint8)
    results = []
    for quality in (10, 40, 90):
        path = write_clip(tmp_path / name, clip, codec=codec, quality=quality, overwrite=True)
        results.append((psnr(read_frames(path), clip), path.stat().st_size))
    (worst, smallest), (middle, medium), (best, largest) = results
    assert worst + 1 < middle
    assert middle + 0.5 < best
    assert smallest < medium < largest


@pytest.mark.parametrize(
    ("name", "codec"),
    [(name, codec) for name, codec, _ in VIDEOS] + [("clip.gif", None), ("clip/", None)],
)
def test_same_frames_give_the_same_bytes(tmp_path: Path, name: str, codec: str | None) -> None:
    """Even where freed memory holds something else each time, which libx264 once let through."""
    code = """
import sys
import numpy as np
from mutoscope.runtime.video import open_writer
x = np.arange(160)
settings = dict(width=160, height=96, fps=12, frames=12, encoder="software")
with open_writer(sys.argv[1], codec=sys.argv[2] or None, **settings) as writer:
    for step in range(12):
        frame = np.zeros((96, 160, 3), np.uint8) + (x[:, None] + 3 * step).astype(np.uint8)
        frame[20:60, 8 * step : 8 * step + 40] = (220, 30, 30)
        writer.write(frame)
"""
    results = []
    for number, perturb in enumerate(("0", "85")):
        (tmp_path / str(number)).mkdir()
        path = f"{tmp_path}/{number}/{name}"
        job = in_python(code, path, codec or "", MALLOC_PERTURB_=perturb)
        assert job.communicate() == ("", "")
        results.append(digest(Path(path)))
    assert results[0] == results[1]


@settings(max_examples=20, deadline=None)
@given(width=st.integers(1, 70), height=st.integers(1, 70))
def test_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    make_clip: Callable[..., Clip],
    write_clip: WriteClip,
    width: int,
    height: int,
) -> None:
    """Video gets even sides, the edge repeated; GIF and PNG keep theirs."""
    folder = tmp_path_factory.mktemp("sizes")
    clip = make_clip(2, height, width)
    for name in ("c.mp4", "c.webm", "c.gif", "c/"):
        info = probe(write_clip(f"{folder}/{name}", clip))
        even = name in {"c.mp4", "c.webm"}
        assert info.width == width + (width % 2 if even else 0)
        assert info.height == height + (height % 2 if even else 0)
        assert info.frames == 2


def test_odd_sides_repeat_the_edge(
    tmp_path: Path,
    make_clip: Callable[..., Clip],
    write_clip: WriteClip,
    psnr: Psnr,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip = make_clip(5, 63, 97)
    back = read_frames(write_clip(tmp_path / "c.mp4", clip, quality=100))
    padded = np.pad(clip, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    assert back.shape == padded.shape
    assert psnr(back[:, -2:], padded[:, -2:]) > 38
    assert psnr(back[:, :, -2:], padded[:, :, -2:]) > 38
    assert caplog.record_tuples == [
        (
            "mutoscope.runtime.video.writer",
            logging.WARNING,
            "h264 stores even sizes: the frames of 97x63 become 98x64, their edge repeated",
        )
    ]


def test_encoder_that_refuses_the_size(
    tmp_path: Path, make_clip: Callable[..., Clip], writer: Writer
) -> None:
    opened = writer(tmp_path / "c.mp4", make_clip(1, 2, 2), codec="av1")
    with pytest.raises(UserError) as caught:
        opened.open()
    assert str(caught.value) == (
        "libsvtav1 cannot encode frames of 2x2 (Invalid argument); choose another size or encoder"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "c.png",
            {},
            ".png holds one frame, the clip has 9; write .mp4, or a folder (a name that ends in /)",
        ),
        (
            "c.gif",
            {"fps": 60},
            ".gif plays up to 50 frames a second, not 60; lower --fps or write .mp4",
        ),
        ("c.gif", {"quality": 50}, ".gif has no quality to choose; leave --quality out"),
        (
            "c/",
            {"quality": 50},
            "a folder of PNG files has no quality to choose; leave --quality out",
        ),
        (
            "c.gif",
            {"dither": "bayer"},
            "--dither is for .mp4, .mkv and .webm; leave it out for .gif",
        ),
        (
            "c/",
            {"dither": "bayer"},
            "--dither is for .mp4, .mkv and .webm; leave it out for a folder of PNG files",
        ),
        ("c.mp4", {"quality": 101}, "quality is 0 (worst) to 100 (best), not 101"),
        ("c.mp4", {"fps": 0}, "frames a second are above 0 and up to 1000, not 0"),
        (
            "c.webm",
            {"codec": "hevc"},
            ".webm holds vp9 or av1, not hevc; hevc goes into .mp4, .mkv",
        ),
        (
            "c.avi",
            {},
            (
                "c.avi: .avi is not supported; use .mp4, .mkv, .webm, .gif, .png, "
                "or a folder (a name that ends in /)"
            ),
        ),
        ("missing/c.mp4", {}, "the folder missing does not exist; make it first"),
        ("taken.mp4", {}, "taken.mp4 exists; choose another name or pass --overwrite"),
        ("taken/", {}, "taken exists; choose another name or pass --overwrite"),
        ("", {}, "'.' is no name for a clip"),
    ],
)
def test_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.mp4").touch()
    Path("taken").mkdir()
    Path("taken/0001.png").touch()
    known = {"width": 96, "height": 64, "fps": 12, "frames": 9, "encoder": "software"}
    with pytest.raises(UserError) as caught:
        open_writer(name, **{**known, **changes})
    assert str(caught.value) == message
    assert names(".") == ["taken", "taken.mp4"]


def test_overwrite(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    for name in ("c.mp4", "c/"):
        path = write_clip(f"{tmp_path}/{name}", clip[:3])
        write_clip(f"{tmp_path}/{name}", clip[:2], overwrite=True)
        assert probe(path).frames == 2
    assert names(tmp_path) == ["c", "c.mp4"]


@pytest.mark.parametrize("name", ["c.mp4", "c.webm", "c.gif", "c/"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exception_leaves_nothing(
    tmp_path: Path, clip: Clip, writer: Writer, name: str, error: type[BaseException]
) -> None:
    def write_some() -> None:
        with writer(f"{tmp_path}/{name}", clip) as opened:
            opened.write(clip[0])
            opened.write(clip[1])
            assert len(names(tmp_path)) == 1
            raise error

    with pytest.raises(error):
        write_some()
    assert names(tmp_path) == []


def test_kill_leaves_no_clip(tmp_path: Path) -> None:
    """What is killed cannot clean up, but its unfinished file has a hidden name."""
    code = """
import sys
import numpy as np
from mutoscope.runtime.video import open_writer
settings = dict(width=96, height=64, fps=12, frames=1 << 30, encoder="software")
with open_writer(sys.argv[1], **settings) as writer:
    for step in range(1 << 30):
        writer.write(np.full((64, 96, 3), step % 256, np.uint8))
        print(step, flush=True)
"""
    job = in_python(code, tmp_path / "c.mp4")
    assert job.stdout is not None
    assert job.stdout.readline() == "0\n"
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert [name[:11] for name in names(tmp_path)] == [".mutoscope-"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            np.zeros((64, 97, 3), np.uint8),
            "a frame is uint8 (64, 96, 3), this one is uint8 (64, 97, 3)",
        ),
        (
            np.zeros((64, 96, 3), np.float32),
            "a frame is uint8 (64, 96, 3), this one is float32 (64, 96, 3)",
        ),
    ],
)
def test_frame_that_was_not_announced(
    tmp_path: Path, clip: Clip, writer: Writer, frame: NDArray[Any], message: str
) -> None:
    with pytest.raises(MutoscopeError) as caught, writer(tmp_path / "c.mp4", clip) as opened:
        opened.write(frame)
    assert str(caught.value) == message
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("count", "message"),
    [(8, "8 frames written to {}, 9 announced"), (10, "more than the 9 frames announced")],
)
def test_wrong_number_of_frames(
    tmp_path: Path, clip: Clip, writer: Writer, count: int, message: str
) -> None:
    path = tmp_path / "c.mp4"

    def write() -> None:
        with writer(path, clip) as opened:
            for _ in range(count):
                opened.write(clip[0])

    with pytest.raises(MutoscopeError) as caught:
        write()
    assert str(caught.value) == message.format(path)
    assert names(tmp_path) == []


def test_writer_must_be_open(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    path = tmp_path / "c.mp4"
    with pytest.raises(MutoscopeError) as caught:
        writer(path, clip).write(clip[0])
    assert str(caught.value) == f"the writer of {path} is not open"


@pytest.mark.parametrize("name", ["c.mp4", "c.gif", "c/"])
def test_cancel_while_closing(tmp_path: Path, clip: Clip, writer: Writer, name: str) -> None:
    opened = writer(f"{tmp_path}/{name}", clip)
    opened.open()
    for frame in clip:
        opened.write(frame)
    opened.cancel()
    with pytest.raises(CancelledError):
        opened.close()
    assert names(tmp_path) == []


def test_cancel_is_noticed_between_the_steps_of_closing(
    tmp_path: Path, clip: Clip, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def finish() -> Iterator[None]:
        for step in range(3):
            steps.append(step)
            opened.cancel()
            yield

    opened = writer(tmp_path / "c/", clip)
    opened.open()
    for frame in clip:
        opened.write(frame)
    monkeypatch.setattr(opened._sink, "finish", finish)
    with pytest.raises(CancelledError):
        opened.close()
    assert steps == [0]


def test_frames_need_not_be_contiguous(tmp_path: Path, clip: Clip, write_clip: WriteClip) -> None:
    mirrored = clip[:, :, ::-1]
    assert np.array_equal(read_frames(write_clip(tmp_path / "c/", mirrored)), mirrored)
    write_clip(tmp_path / "a.mp4", mirrored)
    write_clip(tmp_path / "b.mp4", mirrored.copy())
    assert digest(tmp_path / "a.mp4") == digest(tmp_path / "b.mp4")


def test_seconds_are_counted(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    opened = writer(tmp_path / "c.mp4", clip)
    counts = [opened.seconds]
    with opened:
        counts.append(opened.seconds)
        for frame in clip:
            opened.write(frame)
        counts.append(opened.seconds)
    counts.append(opened.seconds)
    assert counts[0] == 0
    assert counts == sorted(set(counts))


def test_a_name_is_never_taken_for_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Clip, write_clip: WriteClip
) -> None:
    """FFmpeg would read `pipe:1.mp4` and `data:x.mp4` as protocols."""
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:1.mp4", "http:c.mp4", "%d.mp4", "-y.mp4"):
        assert probe(write_clip(name, clip)).frames == 9
        assert len(read_frames(name)) == 9
