"""What a writer is given of frames that a GPU made. A CPU is in the GPU's place, and libx264, which
takes NV12 too, in that of an encoder on it."""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cpu_device import CpuStream
from mutoscope.kernels.frames import from_rgb8
from mutoscope.kernels.surfaces import Surfaces
from mutoscope.kernels.yuv import to_nv12, to_p010
from mutoscope.runtime.arithmetic import arithmetic_on
from mutoscope.runtime.device_pictures import pictures
from mutoscope.runtime.video import ClipWriter, probe, selection
from mutoscope.runtime.video.colour import YuvConverter
from mutoscope.runtime.video.encoders import ENCODERS, HARDWARE, SOFTWARE
from mutoscope.runtime.video.feed import RGB, Feed
from mutoscope.runtime.video.planes import HostPictures

Writer = Callable[..., ClipWriter]
ON_GPU = dataclasses.replace(
    ENCODERS["libx264"], pix_fmt="nv12", hardware=True, reads_gpu_memory=True
)
NAMES = ["c.mp4", "c.mkv"]


def floats(clip: Any) -> list[Any]:
    """A clip as a VAE gives it: the first frame alone, then the others by four."""
    frames = from_rgb8(clip)
    starts = range(1, frames.shape[2], 4)
    return [np.ascontiguousarray(frames[:, :, :1])] + [
        np.ascontiguousarray(frames[:, :, start : start + 4]) for start in starts
    ]


def write(writer: ClipWriter, stream: CpuStream | None, clip: Any) -> bytes:
    pieces = [clip]
    if stream is not None:
        feed = writer.feed_from(stream)
        pieces = pictures(stream, map(stream.upload, floats(clip)), feed)
    with writer:
        for piece in pieces:
            for frame in piece:
                writer.write(frame)
    return writer.path.read_bytes()


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "libx264", ON_GPU)
    monkeypatch.setattr(selection, "HARDWARE", (ON_GPU,))


def test_nvenc_alone_reads_gpu_memory() -> None:
    names = {encoder.name for encoder in (*SOFTWARE, *HARDWARE) if encoder.reads_gpu_memory}
    assert names == {"h264_nvenc", "hevc_nvenc", "av1_nvenc"}


@pytest.mark.parametrize(
    ("name", "feed"),
    [("c.mp4", Feed("nv12")), ("c.webm", Feed("nv12")), ("c.gif", RGB), ("c/", RGB)],
)
def test_what_a_file_is_fed(
    tmp_path: Path, clip: Any, writer: Writer, cpu_stream: CpuStream, name: str, feed: Feed
) -> None:
    opened = writer(f"{tmp_path}/{name}", clip)
    assert opened.feed_from(None) == RGB
    assert opened.feed_from(cpu_stream) == opened.feed == feed


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_a_file_has_the_codes_that_the_gpu_made(
    tmp_path: Path,
    make_clip: Any,
    writer: Writer,
    cpu_stream: CpuStream,
    codec: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same bytes as of swscale's pictures with these codes in them."""
    clip = make_clip(6, *size)
    name = "c.webm" if codec == "vp9" else "c.mp4"
    got = write(writer(tmp_path / name, clip, codec=codec), cpu_stream, clip)
    codes = iter(np.concatenate([to_nv12(piece) for piece in floats(clip)]))
    convert = YuvConverter.__call__

    def with_codes(self: YuvConverter, frame: Any) -> av.VideoFrame:
        picture = convert(self, frame)
        made = HostPictures(picture.format.name)(next(codes)).to_ndarray()
        rows = [picture.height, picture.height // 2, picture.height // 2]
        parts = np.split(made.ravel(), np.cumsum([picture.width * rows[0], made.size // 6])[:2])
        for plane, part in zip(picture.planes, parts, strict=True):
            lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).copy()
            lines[:, : plane.width] = part.reshape(plane.height, plane.width)
            plane.update(lines.tobytes())
        return picture

    monkeypatch.setattr(YuvConverter, "__call__", with_codes)
    wanted = write(writer(tmp_path / f"w{name}", clip, codec=codec), None, clip)
    assert got == wanted


@pytest.mark.parametrize("codec", ["hevc", "av1"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "p010le"])
def test_ten_bits_are_the_gpu_s(
    tmp_path: Path, clip: Any, writer: Writer, cpu_stream: CpuStream, codec: str, pix_fmt: str
) -> None:
    """Each encoder gets the codes of `to_p010`, in the layout that it takes."""
    opened = writer(tmp_path / "c.mp4", clip, codec=codec, depth=10)
    assert opened.feed_from(cpu_stream) == Feed("p010le")
    seen: list[Any] = []
    make = HostPictures(pix_fmt)
    pieces = list(pictures(cpu_stream, map(cpu_stream.upload, floats(clip)), opened.feed))
    for piece, values in zip(pieces, floats(clip), strict=True):
        np.testing.assert_array_equal(piece, to_p010(values))
        seen += [make(codes) for codes in piece]
    wanted = YuvConverter(96, 64, pix_fmt)(clip[0])
    assert (seen[0].format.name, seen[0].width, seen[0].height) == (pix_fmt, 96, 64)
    bits = 6 if pix_fmt == "p010le" else 0
    for got, plane in zip(seen[0].planes, wanted.planes, strict=True):
        ours, theirs = (
            np.frombuffer(p, np.uint16).reshape(p.height, -1)[:, : got.line_size // 2].astype(int)
            for p in (got, plane)
        )
        width = min(ours.shape[1], theirs.shape[1])
        assert np.abs((ours[:, :width] >> bits) - (theirs[:, :width] >> bits)).max() <= 1
    write(writer(tmp_path / "d.mp4", clip, codec=codec, depth=10), cpu_stream, clip)
    assert probe(tmp_path / "d.mp4").pix_fmt == "yuv420p10le"


@pytest.mark.parametrize(
    ("depth", "codec", "layout"), [(8, "h264", "nv12"), (10, "hevc", "p010le")]
)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_what_is_dithered_is_made_of_the_frames_themselves(
    tmp_path: Path,
    writer: Writer,
    cpu_stream: CpuStream,
    size: tuple[int, int],
    depth: int,
    codec: str,
    layout: str,
) -> None:
    """On the host and on a GPU: the same codes, the same file."""
    random = np.random.default_rng(0)
    values = [random.uniform(-1, 1, (1, 3, n, *size)).astype(np.float32) for n in (1, 4)]
    options = {"depth": depth, "codec": codec, "dither": "bayer"}
    shape = np.broadcast_to(np.uint8(0), (5, *size, 3))
    made, files = [], []
    for name, stream in (("here.mp4", None), ("there.mp4", cpu_stream)):
        opened = writer(tmp_path / name, shape, **options)
        assert opened.feed_from(stream) == Feed(layout, dithered=True)
        arithmetic = arithmetic_on(stream)
        pieces = list(arithmetic.pictures(map(arithmetic.array, values), opened.feed))
        made.append([codes for piece in pieces for codes in piece])
        with opened:
            for codes in made[-1]:
                opened.write(codes)
        files.append(opened.path.read_bytes())
    wanted = {"nv12": to_nv12, "p010le": to_p010}[layout]
    stated = np.concatenate([wanted(piece, dithered=True) for piece in values])
    np.testing.assert_array_equal(made[0], stated)
    np.testing.assert_array_equal(made[1], stated)
    assert files[0] == files[1]


def test_what_is_dithered_outlives_the_encoder(tmp_path: Path, writer: Writer) -> None:
    """At the default quality: the steps of a dark sky are a third of what they were, and less."""
    rows = np.linspace(0, 1, 240, dtype=np.float32)
    sky = np.stack([-0.80 + 0.05 * rows, -0.75 + 0.06 * rows, -0.55 + 0.10 * rows])
    values = np.broadcast_to(sky[None, :, None, :, None], (1, 3, 5, 240, 320))
    light = 0.2126 * sky[0] + 0.7152 * sky[1] + 0.0722 * sky[2]
    wanted = (109.5 * light + 125.5).reshape(30, 8).mean(1)
    shape, errors = np.broadcast_to(np.uint8(0), (5, 240, 320, 3)), {}
    for dither in ("none", "bayer"):
        opened = writer(tmp_path / f"{dither}.mp4", shape, dither=dither)
        (pictures,) = arithmetic_on(None).pictures([values], opened.feed_from(None))
        with opened:
            for picture in pictures:
                opened.write(picture)
        with av.open(str(opened.path)) as file:
            *_, last = file.decode(video=0)
        means = last.to_ndarray()[:240].astype(float).reshape(30, 8, 40, 8).mean((1, 3))
        errors[dither] = np.sqrt(np.mean((means - wanted[:, None]) ** 2))
    assert errors["none"] > 0.25
    assert errors["bayer"] < 0.08


@pytest.mark.parametrize(("depth", "codec"), [(8, "h264"), (10, "av1")])
def test_frames_that_are_rounded_already_are_dithered_too(
    tmp_path: Path, make_clip: Any, writer: Writer, depth: int, codec: str
) -> None:
    """As those of a clip in memory are when it is saved."""
    clip, files = make_clip(5, 33, 47), []
    options = {"depth": depth, "codec": codec}
    for name, dither in (("nearest.mp4", "none"), ("dithered.mp4", "bayer")):
        files.append(write(writer(tmp_path / name, clip, **options, dither=dither), None, clip))
    stated = writer(tmp_path / "stated.mp4", clip, **options, dither="bayer")
    stated.feed_from(None)
    with stated:
        for codes in (to_p010 if depth == 10 else to_nv12)(from_rgb8(clip), dithered=True):
            stated.write(codes)
    assert files[0] != files[1] == stated.path.read_bytes()


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuv420p"])
@pytest.mark.parametrize("size", [(64, 96), (33, 47), (18, 16)])
def test_they_are_swscales_within_one_code(
    make_clip: Any, pix_fmt: str, size: tuple[int, int]
) -> None:
    clip = make_clip(1, *size)
    there = HostPictures(pix_fmt)(to_nv12(from_rgb8(clip))[0])
    here = YuvConverter(size[1], size[0], pix_fmt)(clip[0])
    assert (there.format.name, there.width, there.height) == (pix_fmt, here.width, here.height)
    assert np.abs(there.to_ndarray().astype(int) - here.to_ndarray()).max() <= 1


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_on_the_gpu_reads_the_same_there(
    tmp_path: Path, make_clip: Any, writer: Writer, cpu_stream: CpuStream, name: str
) -> None:
    clip = make_clip(21)
    brought = writer(tmp_path / f"brought-{name}", clip, encoder="libx264")
    brought.encoder = ENCODERS["libx264"] = dataclasses.replace(ON_GPU, reads_gpu_memory=False)
    wanted = write(brought, cpu_stream, clip)
    ENCODERS["libx264"] = ON_GPU
    left = writer(tmp_path / name, clip, encoder="auto", quality=75)
    cpu_stream.calls.clear()
    assert write(left, cpu_stream, clip) == wanted
    assert left.feed.surfaces is not None
    assert left.feed.label == "nv12 in GPU memory"
    assert not [call for call in cpu_stream.calls if call.startswith("download")]


@pytest.mark.usefixtures("on_gpu")
def test_what_cannot_be_read_there_goes_through_the_host_and_says_so(
    tmp_path: Path,
    clip: Any,
    writer: Writer,
    cpu_stream: CpuStream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise av.ExternalError(1, "no memory of that kind")

    monkeypatch.setattr("mutoscope.runtime.video.device.DevicePictures.__call__", refuse)
    opened = writer(tmp_path / "c.mp4", clip, encoder="libx264")
    with caplog.at_level(logging.INFO, "mutoscope"):
        assert opened.feed_from(cpu_stream) == Feed("nv12")
    told = (
        "libx264 cannot read frames in GPU memory here (no memory of that kind); "
        "they go through the host"
    )
    assert caplog.messages == [told]
    write(opened, cpu_stream, clip)


def test_a_picture_of_another_size_is_refused(
    tmp_path: Path, clip: Any, writer: Writer, cpu_stream: CpuStream
) -> None:
    opened = writer(tmp_path / "c.mp4", clip)
    opened.feed_from(cpu_stream)
    with pytest.raises(Exception, match=r"a frame is uint8 \(96, 96\), this one is .*\(9, 6\)"):
        opened._check(np.zeros((9, 6), np.uint8))


def test_a_gif_gets_the_frames(
    tmp_path: Path, clip: Any, writer: Writer, cpu_stream: CpuStream
) -> None:
    there = write(writer(tmp_path / "there.gif", clip), cpu_stream, clip)
    assert there == write(writer(tmp_path / "here.gif", clip), None, clip)


def test_a_latent_frame_is_begun_before_the_last_is_given(cpu_stream: CpuStream, clip: Any) -> None:
    begun = []

    def decoded() -> Any:
        for piece in floats(clip):
            begun.append(piece.shape[2])
            yield cpu_stream.upload(piece)

    seen = [(len(piece), list(begun)) for piece in pictures(cpu_stream, decoded(), RGB)]
    assert seen == [(1, [1, 4]), (4, [1, 4, 4]), (4, [1, 4, 4])]


def test_surfaces_are_taken_again_when_nobody_reads_them(cpu_stream: CpuStream) -> None:
    surfaces = Surfaces(cpu_stream)
    first, second = (surfaces.take((6, 4), "uint8") for _ in range(2))
    assert first.pointer != second.pointer
    place, plane = first.pointer, np.from_dlpack(first.rows(0, 4))
    del first
    assert surfaces.take((6, 4), "uint8").pointer not in (place, second.pointer)
    del plane
    gc.collect()
    assert surfaces.take((9, 4), "uint8").pointer != place
    assert surfaces.take((6, 4), "uint8").pointer == place
