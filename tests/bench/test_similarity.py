"""PSNR and SSIM, against figures known otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mutoscope.bench.quality.similarity import Similarity, similarity, ssim, together, worst
from mutoscope.errors import UserError
from numpy.typing import NDArray


def clip(seed: int, frames: int = 3, height: int = 16, width: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def picture(height: int, width: int) -> NDArray[np.float64]:
    """Slow waves, whose values are whole numbers between 30 and 220."""
    y, x = np.mgrid[:height, :width]
    return np.asarray((125 + 95 * np.sin(x / 5) * np.cos(y / 7 + x / 11)).round())


def direct_ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The paper's formula, window by window."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(one.shape[0] - 10):
        for left in range(one.shape[1] - 10):
            x, y = (p[top : top + 11, left : left + 11] for p in (one, other))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            values.append(
                (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return float(np.mean(values))


def test_identical_clips() -> None:
    assert similarity(clip(0), clip(0)) == Similarity(0.0, pytest.approx(1.0))
    assert similarity(clip(0), clip(0)).psnr == math.inf


def test_psnr_of_a_known_error() -> None:
    """One level off everywhere is 48.13 dB."""
    one = np.full((2, 16, 16, 3), 100, np.uint8)
    assert similarity(one, one + 1).mse == 1
    assert similarity(one, one + 1).psnr == pytest.approx(20 * math.log10(255))
    assert similarity(one, one + 1).psnr == similarity(one + 1, one).psnr


@pytest.mark.parametrize(("height", "width"), [(11, 11), (13, 29), (32, 16)])
def test_ssim_is_the_papers(height: int, width: int) -> None:
    one = picture(height, width)
    noise = np.random.default_rng(1).normal(0, 20, one.shape)
    other = np.clip(one + noise, 0, 255)
    assert ssim(one, other) == pytest.approx(direct_ssim(one, other), abs=1e-12)
    assert ssim(one, one) == pytest.approx(1, abs=1e-12)
    assert ssim(one, 255 - one) < 0


def test_ssim_reads_luma() -> None:
    """A change of colour that leaves BT.709's luma as it was is none to SSIM; PSNR sees it."""
    one, other = np.full((2, 1, 16, 16, 3), 100, np.uint8)
    other[..., 2] += 99  # 99 x 0.0722 = 10 x 0.7152 - 0.004
    other[..., 1] -= 10
    found = similarity(other, one)
    assert found.ssim == pytest.approx(1, abs=1e-6)
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / ((99**2 + 10**2) / 3)))


def test_of_many_clips() -> None:
    found = [Similarity(0.0, 1.0), Similarity(4.0, 0.5), Similarity(2.0, 0.3)]
    assert together(found) == Similarity(2.0, pytest.approx(0.6))
    assert worst(found) == Similarity(4.0, 0.3)


@pytest.mark.parametrize("other", [clip(0, frames=2), clip(0, height=32), clip(0)[0]])
def test_forms_that_do_not_fit(other: NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match="cannot be compared; give two of one form"):
        similarity(clip(0), other)


def test_clips_smaller_than_the_window() -> None:
    with pytest.raises(UserError, match="sides of 11 pixels or more"):
        similarity(clip(0, height=8), clip(0, height=8))
