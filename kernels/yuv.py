"""Decoded frames as encoders take them: BT.709, limited range, 4:2:0, chroma sited left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RED, GREEN, BLUE = np.float32(0.2126), np.float32(0.7152), np.float32(0.0722)

# swscale's bicubic (a = -0.6) at half rate, by distance in pixels: centred on a pixel across, and
# between two down.
ACROSS = {-3: -0.0375, -1: 0.2875, 0: 0.5, 1: 0.2875, 3: -0.0375}
DOWN = {
    -3: -0.0140625, -2: -0.0421875, -1: 0.1203125, 0: 0.4359375,
    1: 0.4359375, 2: 0.1203125, 3: -0.0421875, 4: -0.0140625,
}  # fmt: skip


def to_nv12(frames: NDArray[Any], *, dithered: bool = False) -> NDArray[np.uint8]:
    """Frames in [-1, 1], (1, 3, frames, height, width), as NV12: 8 bits.

    Args:
        frames: floats; values outside are clipped, NaN is black. An odd side gets its last row or
            column twice.
        dithered: round by an 8x8 Bayer pattern, which hides the steps of smooth gradients, rather
            than to the nearest.

    Returns:
        uint8 (frames, height / 2 * 3, width): luma, then pairs of Cb and Cr.
    """
    return _picture(frames, np.float32(1), 255, dithered).astype(np.uint8)


def to_p010(frames: NDArray[Any], *, dithered: bool = False) -> NDArray[np.uint16]:
    """The same as P010: 10 bits, in the upper bits of 16.

    Returns:
        uint16 (frames, height / 2 * 3, width).
    """
    return _picture(frames, np.float32(4), 1023, dithered).astype(np.uint16) << np.uint16(6)


def _picture(frames: NDArray[Any], unit: np.float32, peak: int, dithered: bool) -> Floats:
    red, green, blue = _inside(frames[0])
    light = RED * red + GREEN * green + BLUE * blue
    luma = np.float32(109.5) * light + np.float32(125.5)
    cb = np.float32(56) / np.float32(0.9278) * _halved(blue - light) + np.float32(128)
    cr = np.float32(56) / np.float32(0.7874) * _halved(red - light) + np.float32(128)
    pairs = np.stack([_code(c, unit, peak, dithered) for c in (cb, cr)], axis=-1)
    return np.concatenate(
        [_code(luma, unit, peak, dithered), pairs.reshape(*cb.shape[:2], -1)], axis=1
    )


def _inside(planes: NDArray[Any]) -> Floats:
    """Clipped, NaN as -1, and even sides."""
    values = np.nan_to_num(np.clip(planes, -1, 1).astype(np.float32), nan=-1)
    height, width = values.shape[-2:]
    return np.pad(values, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")


def _halved(planes: Floats) -> Floats:
    """Filtered and taken at every second pixel and row."""
    across = _filtered(planes, ACROSS)
    return _filtered(across.swapaxes(1, 2), DOWN).swapaxes(1, 2)


def _filtered(planes: Floats, taps: dict[int, float]) -> Floats:
    length = planes.shape[-1]
    padded = np.pad(planes, ((0, 0), (0, 0), (4, 4)), mode="edge")
    total = np.zeros((*planes.shape[:-1], length // 2), np.float32)
    for distance, weight in taps.items():
        start = 4 + distance
        total += np.float32(weight) * padded[..., start : start + length : 2]
    return total


def _code(values: Floats, unit: np.float32, peak: int, dithered: bool) -> Floats:
    rounding = _bayer(*values.shape[-2:]) if dithered else np.float32(0.5)
    codes: Floats = np.clip(np.floor(unit * values + rounding), 0, peak)
    return codes


def _bayer(height: int, width: int) -> Floats:
    """The thresholds of the 8x8 Bayer pattern, float32 (height, width) in (0, 1)."""
    y, x = np.mgrid[:height, :width] & 7
    both = x ^ y
    rank = (
        (both & 1) << 5
        | (y & 1) << 4
        | (both & 2) << 2
        | (y & 2) << 1
        | (both & 4) >> 1
        | (y & 4) >> 2
    )
    thresholds: Floats = ((rank + 0.5) / 64).astype(np.float32)
    return thresholds
