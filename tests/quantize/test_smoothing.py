"""Outlying channels: their range moves into the weights, where it does less harm."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from mutoscope.quantize.activations import Activations
from mutoscope.quantize.grid import FP8, INT8, Grid
from mutoscope.quantize.smoothing import Quantize, asymmetric, errors, smooth, symmetric

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((64, 24)).astype(np.float32)
WEIGHT = RNG.standard_normal((24, 16)).astype(np.float32)


def seen(rows: np.ndarray) -> Activations:
    return Activations(rows.min(axis=0), rows.max(axis=0), rows)


def tried(rows: np.ndarray, quantize: Quantize, grid: Grid) -> tuple[float, float]:
    """The error without factors, and with them."""
    activations = seen(rows)
    factors = smooth(activations.peak, np.abs(WEIGHT).max(axis=1))
    assert np.log(factors).mean() == pytest.approx(0, abs=1e-6)
    ways = (np.ones(24, np.float32), factors)
    plain, smoothed = errors(activations, [WEIGHT], ways, quantize, grid)
    return plain, smoothed


def with_an_outlier() -> np.ndarray:
    rows = ROWS.copy()
    rows[:, 3] *= 50
    return rows


def test_outliers_are_smoothed_away() -> None:
    rows = with_an_outlier()
    assert smooth(seen(rows).peak, np.abs(WEIGHT).max(axis=1)).argmax() == 3
    plain, smoothed = tried(rows, asymmetric, INT8)
    assert smoothed < plain / 3


def test_even_channels_gain_nothing() -> None:
    plain, smoothed = tried(ROWS, asymmetric, INT8)
    assert smoothed > 0.9 * plain


def test_float8_bears_outliers_as_it_is() -> None:
    """It rounds small numbers as finely as large ones."""
    plain, smoothed = tried(with_an_outlier(), partial(symmetric, FP8), FP8)
    assert smoothed > 0.9 * plain
    assert plain == pytest.approx(tried(ROWS, partial(symmetric, FP8), FP8)[0], rel=0.3)


def test_a_channel_without_activations_or_weights_does_no_harm() -> None:
    factors = smooth(np.float32([0, 2, 0]), np.float32([3, 0, 0]))
    assert np.isfinite(factors).all()
    assert (factors > 0).all()


def test_eight_bits_are_off_by_half_a_step() -> None:
    activations = seen(np.float32([[-0.2, 1.0], [0.0, 5.0]]))
    got = asymmetric(activations)
    assert np.abs(got - activations.rows).max() <= 0.5001 * 5.2 / 255
    assert got[1, 0] == 0
    assert (asymmetric(seen(np.zeros((2, 3), np.float32))) == 0).all()


def test_settled_steps_are_as_many_on_both_sides() -> None:
    activations = seen(np.float32([[-1.27, 0.5], [0.013, 0]]))
    np.testing.assert_allclose(symmetric(INT8, activations), [[-1.27, 0.5], [0.01, 0]], atol=1e-6)
    assert (symmetric(INT8, seen(np.zeros((2, 3), np.float32))) == 0).all()
