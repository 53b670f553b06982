"""The distance kernel gives the statement's bits, which are those of a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.distance import relative_l1
from mutoscope.kernels.sums import LANES, ordered_sum

DTYPES = ["float32", "float16", "bfloat16"]


def test_it_is_the_quotient_of_the_sums() -> None:
    current, previous = np.float32([[1, -2], [4, 0]]), np.float32([[0, -2], [-1, 5]])
    assert relative_l1(current, previous) == np.float32(11) / np.float32(8)


def test_an_ordered_sum_is_as_good_as_it_says() -> None:
    terms = np.random.default_rng(1).uniform(0, 1, 3 * LANES + 12345).astype(np.float32)
    exact = terms.astype(np.float64).sum()
    assert abs(float(ordered_sum(terms)) / exact - 1) < 24 * 2**-24
    assert ordered_sum(np.zeros(0, np.float32)) == 0
    assert ordered_sum(np.float32([7])) == 7


def measure(bench: Any, current: Any, previous: Any) -> np.float32:
    partials, distance = bench.room((2, 256)), bench.room((1,))
    bench.ops.relative_l1(current, previous, partials, distance)
    return np.float32(bench.get(distance)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "offset"), [((1, 16, 3, 20, 14), 0), ((1,), 0), ((2051,), 1),
                                               ((7, 301), 3)])  # fmt: skip
def test_bits_are_the_statement_s(
    bench: Any, rounded: Any, dtype: str, shape: tuple[int, ...], offset: int
) -> None:
    random = np.random.default_rng(len(shape))
    current, previous = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    got = measure(bench, bench.put(current, dtype, offset), bench.put(previous, dtype))
    assert got == relative_l1(rounded(current, dtype), rounded(previous, dtype)) != 0


def test_more_elements_than_lanes(bench: Any) -> None:
    random = np.random.default_rng(8)
    current, previous = (random.normal(size=LANES + 1001).astype(np.float32) for _ in range(2))
    got = measure(bench, bench.put(current), bench.put(previous))
    assert got == relative_l1(current, previous) != 0


@pytest.mark.parametrize(
    ("current", "previous", "expected"),
    [([1, 2], [0, 0], np.inf), ([0, 0], [0, 0], np.nan), ([np.nan, 0], [1, 1], np.nan),
     ([np.inf, 0], [1, 1], np.inf), ([np.inf], [np.inf], np.nan), ([3e-45], [1e-45], 1),
     ([3e38, -3e38], [-3e38, 3e38], np.nan)],
)  # fmt: skip
def test_the_ends_of_the_scale(
    bench: Any, current: list[float], previous: list[float], expected: float
) -> None:
    now, before = np.float32(current), np.float32(previous)
    stated = relative_l1(now, before)
    np.testing.assert_array_equal(measure(bench, bench.put(now), bench.put(before)), stated)
    np.testing.assert_array_equal(stated, np.float32(expected))


def test_arrays_that_do_not_go_together(bench: Any) -> None:
    four, five = bench.room((4,)), bench.room((5,))
    with pytest.raises(MutoscopeError, match="of one shape"):
        measure(bench, four, five)
    with pytest.raises(MutoscopeError, match="of one type"):
        measure(bench, four, bench.room((4,), "float16"))
    with pytest.raises(
        MutoscopeError, match=r"partials must be float32 \(2, 256\), not float32 \(4,\)"
    ):
        bench.ops.relative_l1(four, four, four, four)
