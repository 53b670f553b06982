from __future__ import annotations

import itertools

import numpy as np
import pytest
from mutoscope.runtime.video.colour import RgbConverter, YuvConverter

COLOURS = list(itertools.product([0, 64, 128, 192, 255], repeat=3))


def bt709(colour: tuple[int, ...]) -> np.ndarray:
    """Y, Cb, Cr of limited range, ITU-R BT.709-6, 3.2 to 3.5, unrounded."""
    r, g, b = np.array(colour) / 255
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return np.array([16 + 219 * y, 128 + 224 * (b - y) / 1.8556, 128 + 224 * (r - y) / 1.5748])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12"])
def test_matrix_is_bt709(pix_fmt: str) -> None:
    """Within rounding: half a code value, and a tenth for swscale's fixed point."""
    convert = YuvConverter(8, 8, pix_fmt)
    for colour in COLOURS:
        picture = convert(np.full((8, 8, 3), colour, np.uint8))
        y, chroma = np.split(picture.to_ndarray(), [8])
        cb, cr = chroma[:, ::2], chroma[:, 1::2]
        if pix_fmt == "yuv420p":
            cb, cr = np.split(chroma.reshape(8, 4), 2)
        for plane, value in zip((y, cb, cr), bt709(colour), strict=True):
            assert np.abs(plane - value).max() <= 0.6


def test_there_and_back() -> None:
    """A code value of Cb is 2.1 of blue: half of it, and the rounding of Y and of RGB."""
    there, back = YuvConverter(8, 8, "yuv420p"), RgbConverter()
    for colour in COLOURS:
        frame = np.full((8, 8, 3), colour, np.uint8)
        assert np.abs(back(there(frame)).astype(int) - frame).max() <= 2


def test_odd_sides_are_doubled() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    padded = np.pad(frame, ((0, 1), (0, 1), (0, 0)), mode="edge")
    convert = YuvConverter(5, 3, "yuv420p")
    assert (convert(frame).width, convert(frame).height) == (6, 4)
    assert np.array_equal(convert(frame).to_ndarray(), convert(padded).to_ndarray())


def test_chroma_lies_at_the_left_pixel() -> None:
    """A ramp of 3 a pixel in blue is 1.5 in Cb; in the middle it would be 0.75 more."""
    ramp = np.arange(80) * 3
    frame = np.full((8, 80, 3), 128, np.uint8)
    frame[..., 2] = ramp
    chroma = YuvConverter(80, 8, "yuv420p")(frame).to_ndarray()[8:10].reshape(4, 40)
    expected = [bt709((128, 128, blue))[1] for blue in ramp[::2]]
    assert abs(float(np.mean(chroma[:, 4:-4] - expected[4:-4]))) < 0.1
