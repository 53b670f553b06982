"""Guidance and statistics, value by value."""

from __future__ import annotations

import numpy as np
from mutoscope.kernels.latents import denormalize, guide, normalize


def test_guide() -> None:
    conditional, unconditional = np.float32([3, 5]), np.float32([1, 6])
    assert guide(conditional, unconditional, 4.0).tolist() == [9, 2]
    assert guide(conditional, unconditional, 4.0).dtype == np.float32
    assert guide(conditional, unconditional, 1.0).tolist() == [3, 5]
    assert guide(conditional, unconditional, 0.0).tolist() == [1, 6]


def test_denormalize_goes_by_channel() -> None:
    latents = np.ones((2, 3, 1, 2, 2), np.float32)
    moved = denormalize(latents, np.float32([0, 1, 2]), np.float32([1, 10, 100]))
    assert moved[1, :, 0, 1, 1].tolist() == [1, 11, 102]
    assert moved.dtype == np.float32


def test_normalize_is_the_way_back() -> None:
    latents = np.float32([1, 11, 102]).reshape(1, 3, 1, 1, 1)
    moved = normalize(latents, np.float32([0, 1, 2]), np.float32([1, 10, 100]))
    assert moved.ravel().tolist() == [1, 1, 1]
    assert moved.dtype == np.float32
