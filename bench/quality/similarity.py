"""How like two clips are, pixel by pixel: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError

Frames = NDArray[np.uint8]
Plane = NDArray[np.float64]

PEAK = 255.0
LUMA = (0.2126, 0.7152, 0.0722)
"""Of BT.709."""

WINDOW, SIGMA = 11, 1.5
STABILISERS = ((0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2)


@dataclass(frozen=True)
class Similarity:
    """How like a clip is to another, or many clips to as many others.

    Attributes:
        mse: mean squared error over all frames, pixels and channels, in levels of 255, squared.
        ssim: structural similarity of the luma, the mean over frames; 1 where they are the same.
    """

    mse: float
    ssim: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; infinite where nothing differs."""
        return 10 * math.log10(PEAK**2 / self.mse) if self.mse else math.inf


def similarity(frames: Frames, reference: Frames) -> Similarity:
    """Compare two clips, uint8 (frames, height, width, 3), a frame at a time.

    Raises:
        UserError: they are not of one form, or smaller than the window of 11 pixels.
    """
    if frames.shape != reference.shape or frames.ndim != 4 or min(frames.shape[1:3]) < WINDOW:
        raise UserError(
            f"clips of {frames.shape} and {reference.shape} cannot be compared; give two of one "
            f"form (frames, height, width, 3) with sides of {WINDOW} pixels or more"
        )
    pairs = list(zip(frames, reference, strict=True))
    return Similarity(
        float(np.mean([_mse(one, other) for one, other in pairs])),
        float(np.mean([ssim(_luma(one), _luma(other)) for one, other in pairs])),
    )


def together(found: Iterable[Similarity]) -> Similarity:
    """Over many clips of one form: the PSNR of their mean squared error, and the mean SSIM."""
    found = list(found)
    return Similarity(
        float(np.mean([item.mse for item in found])), float(np.mean([item.ssim for item in found]))
    )


def worst(found: Iterable[Similarity]) -> Similarity:
    """The lowest PSNR and the lowest SSIM, perhaps of different clips."""
    found = list(found)
    return Similarity(max(item.mse for item in found), min(item.ssim for item in found))


def ssim(one: Plane, other: Plane) -> float:
    """Structural similarity of two pictures (height, width), 0 to 255.

    A Gaussian window of 11x11, σ 1.5, K 0.01 and 0.03, the mean over where it lies inside.
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004;
    without the downsampling of its later code.
    """
    mean, other_mean = _blurred(one), _blurred(other)
    variance = _blurred(one * one) - mean**2
    other_variance = _blurred(other * other) - other_mean**2
    covariance = _blurred(one * other) - mean * other_mean
    first, second = STABILISERS
    likeness = (2 * mean * other_mean + first) * (2 * covariance + second)
    scale = (mean**2 + other_mean**2 + first) * (variance + other_variance + second)
    return float(np.mean(likeness / scale))


def _mse(one: Frames, other: Frames) -> float:
    difference = one.astype(np.float64) - other
    return float(np.mean(difference**2))


def _luma(frame: Frames) -> Plane:
    return np.asarray(frame @ np.array(LUMA), np.float64)


def _blurred(plane: Plane) -> Plane:
    """The window's weighted mean at every place inside: (height - 10, width - 10)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        inside = plane.shape[axis] - WINDOW + 1
        places = (plane.take(range(k, k + inside), axis) for k in range(WINDOW))
        plane = np.asarray(sum(w * p for w, p in zip(weights, places, strict=True)))
    return plane
