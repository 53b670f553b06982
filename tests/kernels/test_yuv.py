"""NV12 and P010 against FFmpeg's swscale, which makes them today."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from mutoscope.kernels.frames import from_rgb8, to_rgb8
from mutoscope.kernels.yuv import to_nv12, to_p010
from mutoscope.runtime.video.colour import YuvConverter

SIZES = [(64, 96), (48, 50), (33, 47), (17, 16), (120, 208)]


def clip(kind: str, height: int, width: int) -> np.ndarray[Any, Any]:
    if kind == "noise":
        generator = np.random.default_rng(height)
        return generator.uniform(-1.2, 1.2, (1, 3, 1, height, width)).astype(np.float32)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    waves = np.stack([np.sin(9 * x + y), np.cos(7 * y - x), np.sin(20 * x * y)])
    return waves.astype(np.float32)[None, :, None]


def codes(picture: av.VideoFrame, dtype: type) -> np.ndarray[Any, Any]:
    """A picture's planes one below the other, as our statements put them."""
    rows = []
    for plane in picture.planes:
        lines = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        rows.append(lines[:, : picture.width])
    return np.concatenate(rows).astype(int)


@pytest.mark.parametrize("kind", ["noise", "waves"])
@pytest.mark.parametrize("size", SIZES)
def test_nv12_is_swscale_s_within_one_code(kind: str, size: tuple[int, int]) -> None:
    values = clip(kind, *size)
    reference = YuvConverter(size[1], size[0], "nv12")(to_rgb8(values)[0])
    assert np.abs(to_nv12(values)[0].astype(int) - codes(reference, np.uint8)).max() <= 1


@pytest.mark.parametrize("kind", ["noise", "waves"])
@pytest.mark.parametrize("size", SIZES)
def test_p010_is_swscale_s_within_one_code(kind: str, size: tuple[int, int]) -> None:
    # swscale starts from 8 bits; so do we here, to compare what follows.
    rgb = to_rgb8(clip(kind, *size))
    values = (rgb.astype(np.float32) / 127.5 - 1).transpose(3, 0, 1, 2)[None]
    reference = codes(YuvConverter(size[1], size[0], "p010le")(rgb[0]), np.uint16) >> 6
    got = to_p010(values)[0]
    assert np.abs((got >> 6).astype(int) - reference).max() <= 1
    assert not np.any(got & 63)


# BT.709, limited range: the codes of the standard's corners.
@pytest.mark.parametrize(
    ("colour", "expected"),
    [((-1, -1, -1), (16, 128, 128)), ((1, 1, 1), (235, 128, 128)), ((1, -1, -1), (63, 102, 240)),
     ((-1, 1, -1), (173, 42, 26)), ((-1, -1, 1), (32, 240, 118)), ((np.nan,) * 3, (16, 128, 128)),
     ((9, 9, 9), (235, 128, 128))],
)  # fmt: skip
def test_corners(colour: tuple[float, ...], expected: tuple[int, ...]) -> None:
    flat = np.broadcast_to(np.float32(colour)[None, :, None, None, None], (1, 3, 1, 2, 2))
    light, cb, cr = expected
    assert to_nv12(flat).tolist() == [[[light, light], [light, light], [cb, cr]]]
    deep = to_p010(flat)[0] >> 6
    assert np.abs(deep[2].astype(int) - [4 * cb, 4 * cr]).max() <= 2


def test_an_odd_side_repeats_its_end() -> None:
    values = clip("noise", 5, 7)
    even = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, 1), (0, 1)), mode="edge")
    assert np.array_equal(to_nv12(values), to_nv12(even))


def test_chroma_is_sited_left() -> None:
    values = np.full((1, 3, 1, 8, 16), -1, np.float32)
    values[:, 2, :, :, 8] = 1  # one blue column, on chroma sample 4 and on no other's taps
    blue = to_nv12(values)[0, 8:, 0::2]
    assert (blue[:, 4] == 128 + 112 // 2).all()
    assert (np.delete(blue, 4, axis=1) == 128).all()


def test_dithering_keeps_the_mean_between_two_codes() -> None:
    grey = np.full((1, 3, 1, 16, 16), (100.3 - 125.5) / 109.5, np.float32)
    luma = to_nv12(grey, dithered=True)[0, :16]
    assert set(luma.ravel().tolist()) == {100, 101}
    assert luma.mean() == pytest.approx(100.3, abs=1 / 64)
    assert (to_nv12(grey)[0, :16] == 100).all()
    deep = to_p010(grey, dithered=True)[0, :16] >> 6
    assert set(deep.ravel().tolist()) == {401, 402}
    assert deep.mean() == pytest.approx(401.2, abs=1 / 64)


def test_dithering_hides_the_steps_of_a_gradient() -> None:
    """If it is of the floats: those of RGB in 8 bits stay. The eye takes the means of pixels."""
    rows = np.linspace(0, 1, 480, dtype=np.float32)
    sky = np.stack([-0.80 + 0.05 * rows, -0.75 + 0.06 * rows, -0.55 + 0.10 * rows])
    frames = np.broadcast_to(sky[None, :, None, :, None], (1, 3, 1, 480, 64))
    light = 0.2126 * sky[0] + 0.7152 * sky[1] + 0.0722 * sky[2]
    wanted = (109.5 * light + 125.5).reshape(60, 8).mean(1)

    def error(frames: Any, *, dithered: bool) -> float:
        luma = to_nv12(frames, dithered=dithered)[0, :480].astype(float)
        means = luma.reshape(60, 8, 8, 8).mean((1, 3))
        return float(np.sqrt(np.mean((means - wanted[:, None]) ** 2)))

    assert error(frames, dithered=False) > 0.2
    assert error(from_rgb8(to_rgb8(frames)), dithered=True) > 0.1
    assert error(frames, dithered=True) < 0.01
