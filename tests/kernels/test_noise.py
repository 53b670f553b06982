"""Noise: known answers, accuracy, independence of the way it is drawn, and its distribution."""

import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest
from mutoscope.errors import UserError
from mutoscope.kernels.noise import (
    CHUNK,
    inverse_normal,
    philox4x32,
    standard_normal,
    standard_normal_range,
)

ONES = 0xFFFFFFFF

# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (np.array([word], np.uint64) for word in counter)
    assert tuple(int(word[0]) for word in philox4x32((c0, c1, c2, c3), key)) == answer


def test_the_first_values_come_from_the_known_answer() -> None:
    uniform = [(word + 0.5) / 2**32 for word in KNOWN_ANSWERS[0][2]]
    expected = [np.float32(NormalDist().inv_cdf(p)) for p in uniform]
    assert standard_normal(0, (4,)).tolist() == expected


def test_the_bits_are_those_of_every_platform() -> None:
    # Checked against a plain C program of the same formulas, compiled without fused operations.
    values = standard_normal(0xFEDCBA9876543210, (4_000_000,), stream=0x0123456789ABCDEF)
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == (
        "10303d0bf454da85fa16acba89b0d5b42829cc0820667adb6f095469c9a41732"
    )


def test_the_quantile_is_as_good_as_the_standard_library_s() -> None:
    words = np.concatenate(
        [
            np.arange(500),
            2**32 - 1 - np.arange(500),
            2**31 + np.arange(-250, 250),
            int(0.075 * 2**32) + np.arange(-250, 250),  # where the two approximations meet
            np.random.default_rng(0).integers(0, 2**32, 20_000),
        ]
    )
    probability = (words + 0.5) / 2**32
    exact = np.array([NormalDist().inv_cdf(p) for p in probability])
    # AS241 promises 1e-16; its dozen float64 roundings, here and in the library, add some.
    np.testing.assert_allclose(inverse_normal(probability), exact, rtol=2e-15, atol=0)


def test_it_is_symmetric_and_bounded() -> None:
    ends = inverse_normal(np.array([0.5, 1 - 0.5]) / 2**32)
    lowest = inverse_normal(np.array([2.0**-33]))[0]
    highest = inverse_normal(np.array([1 - 2.0**-33]))[0]
    assert lowest == -highest == ends[0]
    assert highest == pytest.approx(6.3379577545537, rel=1e-13)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (1, 2), (3, 9), (4, 8), (5, 5), (CHUNK - 3, CHUNK + 6), (2 * CHUNK, 2 * CHUNK + 5)],
)
def test_any_part_can_be_drawn_alone(start: int, stop: int) -> None:
    whole = standard_normal(11, (2 * CHUNK + 5,), stream=3)
    assert np.array_equal(standard_normal_range(11, start, stop, stream=3), whole[start:stop])


def test_the_counter_and_the_key_are_the_block_the_stream_and_the_seed() -> None:
    block, stream, seed = 2**32 + 7, 3 * 2**32 + 5, 11 * 2**32 + 2
    c0, c1, c2, c3 = (np.array([word], np.uint64) for word in (7, 1, 5, 3))
    words = np.concatenate(philox4x32((c0, c1, c2, c3), (2, 11)))
    expected = inverse_normal((words + 0.5) / 2**32).astype(np.float32)
    drawn = standard_normal_range(seed, 4 * block, 4 * block + 4, stream)
    assert drawn.tolist() == expected.tolist()


def test_values_are_numbered_in_c_order() -> None:
    flat = standard_normal(5, (2 * 3 * 7,))
    assert np.array_equal(standard_normal(5, (2, 3, 7)), flat.reshape(2, 3, 7))
    assert np.array_equal(standard_normal(5, (1, 1, 9)).ravel(), flat[:9])


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((0, 3), 0), ((1, 16, 5, 8, 8), 5120)])
def test_shapes(shape: tuple[int, ...], size: int) -> None:
    values = standard_normal(1, shape)
    assert (values.shape, values.size) == (shape, size)
    assert values.dtype == np.float32


def test_the_moments_are_a_normal_distribution_s() -> None:
    values = standard_normal(2024, (1_000_000,)).astype(np.float64)
    # Each bound is 4 standard errors of that moment for a million independent values.
    assert abs(values.mean()) < 4e-3
    assert abs((values**2).mean() - 1) < 4 * math.sqrt(2) * 1e-3
    assert abs((values**3).mean()) < 4 * math.sqrt(15) * 1e-3
    assert abs((values**4).mean() - 3) < 4 * math.sqrt(96) * 1e-3


def test_the_distribution_is_normal() -> None:
    values = np.sort(standard_normal(2024, (20_000,)))
    expected = np.array([NormalDist().cdf(float(value)) for value in values])
    ranks = np.arange(len(values) + 1) / len(values)
    distance = max((expected - ranks[:-1]).max(), (ranks[1:] - expected).max())
    # Kolmogorov and Smirnov: above 1.95 / sqrt(n) for one seed in a thousand.
    assert distance < 1.95 / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 0), (2, 0)), ((1, 0), (1, 1)), ((1, 0), (0, 1)), ((0, 0), (2**32, 0))],
)
def test_seeds_and_streams_are_independent(first: tuple[int, int], second: tuple[int, int]) -> None:
    a, b = (standard_normal(seed, (100_000,), stream) for seed, stream in (first, second))
    # 4 standard errors of the correlation of 100,000 independent pairs.
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(100_000)


def test_neighbours_are_independent() -> None:
    values = standard_normal(9, (400_000,))
    for lag in (1, 2, 3, 4):
        # As above, for 400,000 pairs.
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 4 / math.sqrt(400_000)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range(seed: int) -> None:
    with pytest.raises(UserError) as caught:
        standard_normal(seed, (4,))
    assert str(caught.value) == f"seed must be between 0 and 18446744073709551615, not {seed}"


def test_a_stream_out_of_range() -> None:
    with pytest.raises(UserError) as caught:
        standard_normal(0, (4,), stream=2**64)
    assert str(caught.value) == (f"stream must be between 0 and 18446744073709551615, not {2**64}")


def test_the_largest_seed_and_stream_work() -> None:
    values = standard_normal(2**64 - 1, (8,), stream=2**64 - 1)
    assert np.isfinite(values).all()
    assert not np.array_equal(values, standard_normal(2**64 - 1, (8,), stream=2**64 - 2))
