"""NVENC fed from the GPU's memory. A card without an encoder (H100, H200) shows the other way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.errors import UserError
from mutoscope.kernels.cuda_core import open_device
from mutoscope.kernels.frames import from_rgb8
from mutoscope.runtime.device_pictures import pictures
from mutoscope.runtime.video import open_writer, read_frames
from mutoscope.runtime.video.encoders import ENCODERS, HARDWARE
from mutoscope.runtime.video.selection import failure

pytestmark = pytest.mark.gpu
SIZE = 240, 416
FRAMES = 49
"""More than the encoder and the queue hold, so that surfaces are taken again."""


@pytest.fixture(scope="module")
def stream() -> Iterator[Any]:
    with open_device().stream() as stream:
        yield stream


def clip() -> np.ndarray[Any, Any]:
    """Colours that drift: uint8 (frames, height, width, 3)."""
    time, y, x = np.mgrid[:FRAMES, : SIZE[0], : SIZE[1]]
    waves = [np.sin(x / 40 + time / 3), np.sin(y / 30 + time), np.sin((x + y) / 50 + time / 9)]
    return np.stack([128 + 90 * wave for wave in waves], axis=-1).astype(np.uint8)


def decoded(stream: Any, frames: np.ndarray[Any, Any]) -> Iterator[Any]:
    values = from_rgb8(frames)
    for start in range(0, FRAMES, 4):
        yield stream.upload(np.ascontiguousarray(values[:, :, start : start + 4]))


def write(
    path: Path, encoder: str, stream: Any, frames: np.ndarray[Any, Any], depth: int = 8
) -> str:
    height, width = SIZE
    settings: Any = {"encoder": encoder, "depth": depth, "fps": 16, "frames": FRAMES}
    writer = open_writer(path, width=width, height=height, **settings)
    feed = writer.feed_from(stream)
    with writer:
        for piece in pictures(stream, decoded(stream, frames), feed):
            for picture in piece:
                writer.write(picture)
    return feed.label


@pytest.mark.parametrize(
    ("encoder", "depth", "layout"),
    [
        ("h264_nvenc", 8, "nv12"),
        ("hevc_nvenc", 8, "nv12"),
        ("hevc_nvenc", 10, "p010le"),
        ("av1_nvenc", 8, "nv12"),
        ("av1_nvenc", 10, "p010le"),
    ],
)
def test_nvenc_reads_the_gpu_s_memory(
    stream: Any, tmp_path: Path, encoder: str, depth: int, layout: str
) -> None:
    frames = clip()
    try:
        label = write(tmp_path / "c.mp4", encoder, stream, frames, depth)
    except UserError as error:
        pytest.skip(str(error))
    assert label == f"{layout} in GPU memory"
    got = read_frames(tmp_path / "c.mp4").astype(float)
    assert got.shape == frames.shape
    errors = ((got - frames) ** 2).mean(axis=(1, 2, 3))
    assert 10 * np.log10(255**2 / errors.max()) > 25  # no frame is another's, or torn


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_auto_takes_what_has_encoded_a_picture_and_says_so(
    stream: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str
) -> None:
    height, width = SIZE
    settings: Any = {"fps": 16, "frames": FRAMES, "codec": codec}
    writer = open_writer(tmp_path / "c.mp4", width=width, height=height, **settings)
    candidates = [encoder for encoder in HARDWARE if encoder.codec == codec]
    working = [encoder for encoder in candidates if failure(encoder, writer.spec) is None]
    assert writer.encoder.codec == codec
    assert writer.encoder.hardware is bool(working)
    assert not working or writer.encoder is working[0]
    caplog.set_level(logging.INFO, "mutoscope")
    feed = writer.feed_from(stream)
    with writer:
        for piece in pictures(stream, decoded(stream, clip()), feed):
            for picture in piece:
                writer.write(picture)
    told = (
        f"in hardware with {writer.encoder.name}" if working else "no hardware encoder works here"
    )
    assert told in caplog.text
    assert len(read_frames(tmp_path / "c.mp4")) == FRAMES


@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_an_encoder_that_the_card_lacks_is_refused(tmp_path: Path, name: str) -> None:
    height, width = SIZE
    settings: Any = {"width": width, "height": height, "fps": 16, "frames": FRAMES}
    spec = open_writer(tmp_path / "c.mp4", encoder="software", **settings).spec
    if failure(ENCODERS[name], spec) is None:
        pytest.skip("this card has it")
    with pytest.raises(UserError, match=rf"^{name} does not work here \(.*; use --encoder auto$"):
        open_writer(tmp_path / "c.mp4", encoder=name, **settings)


def test_whatever_the_card_has_a_file_comes_out(stream: Any, tmp_path: Path) -> None:
    assert write(tmp_path / "c.mp4", "auto", stream, clip()).startswith("nv12")
    assert len(read_frames(tmp_path / "c.mp4")) == FRAMES
