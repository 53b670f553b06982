"""Numbers of eight bits: what is stored of values, and what comes of it again."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from mutoscope.errors import MissingExtraError
from mutoscope.quantize.grid import FP8, INT8, float8

RNG = np.random.default_rng(0)


def float8_numbers() -> Any:
    """All that float8 e4m3 has, by its definition: sign, four bits of exponent, three of mantissa.

    Not the largest mantissa with the largest exponent, which is no number.
    """
    exponent, mantissa = np.divmod(np.arange(127), 8)
    normal = (8 + mantissa) * 2.0 ** (exponent - 10)
    positive = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    return np.concatenate([positive, -positive])


def test_a_channel_is_off_by_half_a_step_at_most() -> None:
    weight = RNG.standard_normal((45, 7)).astype(np.float32)
    weight *= np.float32([1, 10, 0.1, 1e-6, 1e6, 0, 1])
    scale = INT8.scales(weight)
    stored = INT8.store(weight, scale)
    assert stored.dtype == np.int8
    assert (np.abs(stored).max(axis=0) == [127, 127, 127, 127, 127, 0, 127]).all()
    assert (np.abs(stored * scale - weight) <= 0.5001 * scale).all()
    assert (INT8.rounded(weight, scale) == stored * scale).all()


def test_float8_stores_each_of_its_numbers_as_its_bits() -> None:
    numbers = float8_numbers()
    stored = FP8.store(numbers.astype(np.float32), np.float32(1)).view(np.uint8)
    assert stored.tolist() == [*range(127), *range(128, 255)]
    assert numbers.max() == FP8.largest == 448


def test_float8_takes_the_nearest_of_its_numbers_the_even_one_of_two() -> None:
    numbers = np.unique(float8_numbers())
    between = (numbers[1:] + numbers[:-1]) / 2
    values = np.float32(
        [*between, *(RNG.standard_normal(1000) * 10.0 ** RNG.integers(-4, 3, 1000))]
    )
    got = FP8.rounded(values, np.float32(1))
    off = np.abs(values[:, None].clip(-448, 448) - numbers)
    assert (np.abs(got - values.clip(-448, 448)) == off.min(axis=1)).all()
    ties = FP8.store(values[: len(between)], np.float32(1)).view(np.uint8)
    assert (ties % 2 == 0).all()


def test_what_is_beyond_the_largest_number_becomes_that() -> None:
    values = np.float32([1e9, -1e9, 449, -480])
    assert FP8.rounded(values, np.float32(1)).tolist() == [448, -448, 448, -448]
    assert INT8.rounded(values, np.float32(1)).tolist() == [127, -127, 127, -127]


def test_a_float8_matrix_has_one_scale_that_takes_its_largest_weight_to_the_end() -> None:
    weight = RNG.standard_normal((45, 7)).astype(np.float32)
    scale = FP8.scales(weight)
    assert (scale.shape, scale.dtype) == ((), np.float32)
    assert scale == np.abs(weight).max() / np.float32(448)
    assert np.abs(FP8.store(weight, scale).astype(np.float32)).max() == 448
    off = np.abs(FP8.rounded(weight, scale) - weight)
    assert (off <= np.abs(weight) / 16 + scale * 2.0**-10).all()


def test_zeros_stay_zeros() -> None:
    for grid in (INT8, FP8):
        zeros = np.zeros((3, 2), np.float32)
        assert (grid.scales(zeros) == 1).all()
        assert (grid.rounded(zeros, grid.scales(zeros)) == 0).all()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        MissingExtraError, match=r"ml_dtypes is not installed; .*'mutoscope\[cpu\]'"
    ):
        float8()
