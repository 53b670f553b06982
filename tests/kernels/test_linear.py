"""Weighted sums of arrays."""

import numpy as np
import pytest
from mutoscope.kernels.linear import combine


def test_each_row_is_one_sum() -> None:
    arrays = [np.array(values, np.float32) for values in ([1, 2], [10, 20], [100, 200])]
    sums = combine(np.array([[1.0, 0.5, -1.0], [0.0, 0.0, 2.0]]), arrays)
    assert [total.tolist() for total in sums] == [[-94.0, -188.0], [200.0, 400.0]]
    assert all(total.dtype == np.float32 for total in sums)


def test_coefficients_are_rounded_to_float32_before_use() -> None:
    (total,) = combine(np.array([[1 / 3]]), [np.array([3.0], np.float32)])
    assert total[0] == np.float32(1 / 3) * np.float32(3)


def test_results_are_new_arrays_and_inputs_stay() -> None:
    array = np.arange(4, dtype=np.float32)
    (same,) = combine(np.array([[1.0]]), [array])
    assert not np.shares_memory(same, array)
    assert array.tolist() == [0, 1, 2, 3]


def test_as_many_coefficients_as_arrays() -> None:
    with pytest.raises(ValueError, match="shorter"):
        combine(np.ones((1, 3)), [np.ones(2, np.float32)] * 2)
