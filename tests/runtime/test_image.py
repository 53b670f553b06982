"""Images from outside: every kind that is read, how they are cut, and what is refused."""

from __future__ import annotations

import hashlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutoscope.errors import UserError
from mutoscope.runtime import image
from mutoscope.runtime.image import cover, read_image

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth, and different in each quarter and channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 3, y * 5, (x + y) * 2], axis=-1).astype(np.uint8)


def encoded(picture: np.ndarray, codec: str, pix_fmt: str, **options: str) -> bytes:
    height, width, _ = picture.shape
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pix_fmt
    encoder.time_base = Fraction(1)
    encoder.options = options
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
    return b"".join(bytes(p) for p in (*encoder.encode(frame), *encoder.encode(None)))


def jpeg(picture: np.ndarray) -> bytes:
    return encoded(picture, "mjpeg", "yuvj444p", qmin="1", qmax="1")


def refusal(value: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_image(value, 32, 32)
    return str(caught.value)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options", "error"),
    [
        ("png", "rgb24", {}, 0),
        ("png", "rgba", {}, 0),
        ("png", "rgb48be", {}, 0),
        ("libwebp", "bgra", {"lossless": "1"}, 0),
        ("libwebp", "yuv420p", {"quality": "100"}, 3),
        ("mjpeg", "yuvj444p", {"qmin": "1", "qmax": "1"}, 1.5),
    ],
)
def test_every_kind(
    tmp_path: Path, picture: np.ndarray, codec: str, pix_fmt: str, options: Any, error: float
) -> None:
    """By what is in the file, whatever its name."""
    path = tmp_path / "first.image"
    path.write_bytes(encoded(picture, codec, pix_fmt, **options))
    read = read_image(path, WIDTH, HEIGHT)
    assert read.pixels.dtype == np.uint8
    assert np.abs(read.pixels.astype(int) - picture).mean() <= error
    assert read.record() == {
        "name": "first.image",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_gray(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "gray.png"
    path.write_bytes(encoded(picture, "png", "gray"))
    pixels = read_image(str(path), WIDTH, HEIGHT).pixels
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (np.ptp(pixels, axis=2) == 0).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_a_photograph_stands_upright(
    tmp_path: Path, picture: np.ndarray, orientation: int, turns: int
) -> None:
    """Orientation 6: the camera was turned left, so the picture has to be turned right."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0])
    exif = b"Exif\0\0MM\0*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    data = jpeg(picture)
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "photo.jpg").write_bytes(data[:2] + segment + data[2:])
    wanted = np.rot90(picture, turns)
    height, width, _ = wanted.shape
    got = read_image(tmp_path / "photo.jpg", width, height).pixels
    assert np.abs(got.astype(int) - wanted).mean() <= 1.5


def test_an_array_of_the_frames_size_stays_as_it_is(picture: np.ndarray) -> None:
    read = read_image(picture, WIDTH, HEIGHT)
    np.testing.assert_array_equal(read.pixels, picture)
    assert read.record() == {
        "name": None,
        "sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
    }


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows"),
    [(48, 48, (16, 64), (0, 48)), (160, 32, (0, 80), (16, 32)), (16, 16, (16, 64), (0, 48))],
    ids=["square", "twice as wide", "smaller"],
)
def test_the_centre_is_cut(
    picture: np.ndarray, width: int, height: int, columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    got = cover(picture, width, height)
    assert got.shape == (height, width, 3)
    part = picture[slice(*rows), slice(*columns)].astype(float)
    np.testing.assert_allclose(got.mean((0, 1)), part.mean((0, 1)), atol=1)
    edge = part[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(got[[0, 0, -1, -1], [0, -1, 0, -1]], edge, atol=8)


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 900), (700, 1), (3, 2), (2000, 3000)],
    ids=lambda size: f"{size[1]}x{size[0]}",
)
def test_any_size_fills_the_frame(size: tuple[int, int]) -> None:
    got = cover(np.full((*size, 3), 91, np.uint8), 48, 32)
    assert got.shape == (32, 48, 3)
    assert (got == 91).all()


def test_a_strided_array(picture: np.ndarray) -> None:
    turned = picture[::-1, ::-1]
    np.testing.assert_array_equal(read_image(turned, WIDTH, HEIGHT).pixels, turned)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "image must be a path or a uint8 array (height, width, 3), not int"),
        ([[0]], "image must be a path or a uint8 array (height, width, 3), not list"),
        (b"png", "image must be a path or a uint8 array (height, width, 3), not bytes"),
        (
            np.zeros((32, 32, 3), np.float32),
            "image must be uint8 (height, width, 3), not float32 [32, 32, 3]",
        ),
        (
            np.zeros((32, 32), np.uint8),
            "image must be uint8 (height, width, 3), not uint8 [32, 32]",
        ),
        (
            np.zeros((3, 32, 32), np.uint8),
            "image must be uint8 (height, width, 3), not uint8 [3, 32, 32]",
        ),
        (
            np.zeros((32, 32, 4), np.uint8),
            "image must be uint8 (height, width, 3), not uint8 [32, 32, 4]",
        ),
        (
            np.zeros((1, 32, 32, 3), np.uint8),
            "image must be uint8 (height, width, 3), not uint8 [1, 32, 32, 3]",
        ),
        (
            np.zeros((0, 32, 3), np.uint8),
            "image must be uint8 (height, width, 3), not uint8 [0, 32, 3]",
        ),
    ],
)
def test_what_is_no_image(value: Any, told: str) -> None:
    assert refusal(value) == told


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == f"there is no image at {tmp_path}/none.png"
    assert refusal(tmp_path) == f"there is no image at {tmp_path}"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == f"there is no image at {tmp_path}/pipe"
    long = tmp_path / ("a" * 300)
    assert refusal(long) == f"cannot read {long}: File name too long"


def test_files_of_another_kind(tmp_path: Path, picture: np.ndarray) -> None:
    video = b"\0\0\0\x20ftypisom" + bytes(100)
    for data in (b"", b"hello", video, b"\x89PNG", encoded(picture, "gif", "rgb8")):
        (tmp_path / "first.png").write_bytes(data)
        assert refusal(tmp_path / "first.png") == (
            f"{tmp_path}/first.png is no PNG, JPEG or WebP image; convert it to one of these"
        )


DAMAGED = (
    " cannot be read: it is damaged, animated, or of more than 134,217,728 pixels; "
    "save it again as a plain PNG"
)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_files_cut_short(tmp_path: Path, picture: np.ndarray, kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    whole = {
        "png": lambda: encoded(noise, "png", "rgb24"),
        "jpeg": lambda: jpeg(noise),
        "webp": lambda: encoded(noise, "libwebp", "bgra", lossless="1"),
    }[kind]()
    path = tmp_path / "first"
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(path) == f"{path}{DAMAGED}"


def test_a_png_of_absurd_size_is_not_decoded(tmp_path: Path, picture: np.ndarray) -> None:
    data = bytearray(encoded(picture, "png", "rgb24"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    assert refusal(tmp_path / "bomb.png") == f"{tmp_path}/bomb.png{DAMAGED}"


def test_limits(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(encoded(picture, "png", "rgb24"))
    monkeypatch.setattr(image, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    assert refusal(path).startswith(f"{path} cannot be read: it is damaged, animated, or of more ")
    assert refusal(picture) == "image has more than 3,839 pixels; make it smaller"
    monkeypatch.setattr(image, "MAX_PIXELS", 2 * HEIGHT * WIDTH)  # FFmpeg counts its padding too
    assert read_image(path, 32, 32).pixels.shape == (32, 32, 3)
    monkeypatch.setattr(image, "MAX_BYTES", 100)
    assert refusal(path) == f"{path} is larger than 0 MB; make the image smaller"


@given(data=st.binary(max_size=300), begin=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_random_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, begin: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.png"
    path.write_bytes(begin + data)
    assert refusal(path) == f"{path}{DAMAGED}"
