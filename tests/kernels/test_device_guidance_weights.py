"""Weighed guidance on a device gives the statement's bits, also where numbers end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.guidance_weights import (
    Projected,
    Variant,
    ZeroStar,
    guidance_weights,
    projected_weights,
    weigh,
    zero_star_weights,
)
from mutoscope.kernels.guided_step import guided_step, rescale_factors
from mutoscope.kernels.latents import guide
from mutoscope.kernels.sums import LANES

SCALE = 4.3
VARIANTS: list[Variant] = [ZeroStar(), Projected(), Projected(0.4), Projected(1.0, 3.0)]
VELOCITY = np.array([[0.0, 1.0]])
ANY_FLOAT = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38])


def random(shape: tuple[int, ...], count: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for _ in range(count)]


def measure(bench: Any, variant: Variant, one: Any, other: Any) -> Any:
    """The weights, on the device."""
    batch = one.shape[0]
    weights = bench.room((batch, 2))
    bench.ops.guidance_weights(variant, one, other, SCALE, bench.room((batch, 5, 256)), weights)
    return weights


def stated(variant: Variant, conditional: Any, unconditional: Any) -> Any:
    with np.errstate(all="ignore"):
        return guidance_weights(variant, conditional, unconditional, SCALE)


@pytest.mark.parametrize(
    ("variant", "dtype", "shape", "offset"),
    [
        (ZeroStar(), "float32", (2, 4, 3, 15, 13), 1),
        (Projected(0.4, 3.0), "float32", (2, 4, 3, 15, 13), 0),
        (Projected(), "float16", (1, 1, 1, 7, 293), 3),
        (ZeroStar(), "bfloat16", (1, 3, 1, 3, 3), 0),
        (Projected(1.0, 3.0), "float32", (1, 1, 1, 1, 1), 0),
    ],
    ids=str,
)
def test_bits_are_the_statement_s(
    bench: Any, rounded: Any, variant: Variant, dtype: str, shape: tuple[int, ...], offset: int
) -> None:
    latents, *values = random(shape, 3, seed=len(shape))
    exact = [rounded(v, dtype) for v in values]
    one, other = (bench.put(v, dtype, offset) for v in values)
    weights = measure(bench, variant, one, other)
    expected = stated(variant, *exact)
    assert expected.dtype == np.float32
    assert bench.get(weights).tobytes() == expected.tobytes()
    output, there = bench.room(shape, "float32", offset), bench.put(latents, "float32", offset)
    table = np.array([[0.9, -0.3]])
    bench.ops.guided_step(
        bench.put(table.astype(np.float32)), there, one, [output],
        unconditional=other, scale=SCALE, weights=weights,
    )  # fmt: skip
    (moved,) = guided_step(table, latents, *exact, SCALE, variant=variant)
    assert bench.get(output).tobytes() == moved.tobytes()


def test_more_elements_than_lanes(bench: Any) -> None:
    variant = Projected(0.4)
    one, other = random((1, LANES + 1001), 2, seed=8)
    weights = measure(bench, variant, bench.put(one), bench.put(other))
    assert bench.get(weights).tobytes() == stated(variant, one, other).tobytes()


def test_weighed_and_rescaled(bench: Any) -> None:
    variant = Projected(0.4)
    latents, one, other = random((2, 4, 3, 5, 7), 3)
    there = bench.put(one), bench.put(other)
    weights = measure(bench, variant, *there)
    partials, factors = bench.room((2, 4, 256)), bench.room((2,))
    bench.ops.rescale_factors(*there, SCALE, 0.7, partials, factors, weights)
    velocity = weigh(one, other, stated(variant, one, other))
    assert bench.get(factors).tobytes() == rescale_factors(one, velocity, 0.7).tobytes()
    output = bench.room(latents.shape)
    bench.ops.guided_step(
        bench.put(VELOCITY.astype(np.float32)), bench.put(latents), there[0], [output],
        unconditional=there[1], weights=weights, factors=factors,
    )  # fmt: skip
    (wanted,) = guided_step(VELOCITY, latents, one, other, SCALE, 0.7, variant=variant)
    np.testing.assert_array_equal(bench.get(output), wanted)


@pytest.mark.parametrize("variant", [ZeroStar(), Projected(0.4, 3.0)], ids=str)
@pytest.mark.parametrize(
    ("one", "other"),
    [([1, -2, 3], [0, 0, 0]), ([0, -0.0, 0], [1, 2, 3]), ([np.nan, 1, 2], [1, 2, 3]),
     ([np.inf, 1, 2], [1, 2, 3]), ([3e38, 1, 2], [-3e38, 1, 1e20]), ([1e-45, 3e-45], [-1e-45, 0])],
)  # fmt: skip
def test_the_ends_of_the_scale(
    bench: Any, variant: Variant, one: list[float], other: list[float]
) -> None:
    pair = np.float32([one]), np.float32([other])
    weights = measure(bench, variant, *map(bench.put, pair))
    np.testing.assert_array_equal(bench.get(weights), stated(variant, *pair))


@settings(max_examples=60, deadline=None)
@given(sums=arrays.arrays(np.float32, 5, elements=ANY_FLOAT), numbers=st.tuples(*[ANY_FLOAT] * 3))
def test_weights_of_any_sums_at_all(bench: Any, sums: Any, numbers: tuple[float, ...]) -> None:
    """What follows the sums alone: those of c * c, u * u, c * u, d * d and d * c."""
    partials = np.zeros((1, 5, 256), np.float32)
    partials[0, :, 3] = sums
    scale, eta, threshold = np.float32(numbers)
    named = dict(zip(("cc", "uu", "cu", "dd", "dc"), sums, strict=True))
    with np.errstate(all="ignore"):
        zero = zero_star_weights(named["cu"], named["uu"], scale)
        dd, dc, cc = (named[name] for name in ("dd", "dc", "cc"))
        projected = projected_weights(dd, dc, cc, scale, eta, threshold)
    there, weights = bench.put(partials), bench.room((1, 2))
    for name, constants, wanted in (
        ("zero_star_weights", [scale], zero),
        ("projected_weights", [scale, eta, threshold], projected),
    ):
        bench.stream.launch("guidance_weights", name, (1, 1), [there, *constants, weights])
        np.testing.assert_array_equal(bench.get(weights)[0], wanted)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("which", [0, 1])
def test_a_nan_takes_its_item_with_it_and_no_other(variant: Variant, which: int) -> None:
    values = random((2, 3, 1, 3, 3), 2)
    values[which][0, 1, 0, 2, 1] = np.nan
    velocity = weigh(*values, stated(variant, *values))
    assert np.isnan(velocity[0]).all()
    assert np.isfinite(velocity[1]).all()


def test_what_has_no_size_is_not_divided_by() -> None:
    """As in diffusers, whose denominators are a little more than zero, too."""
    one, zeros = random((1, 2, 1, 3, 3), 1)[0], np.zeros((1, 2, 1, 3, 3), np.float32)
    tiny = np.full_like(one, 1e-30)
    assert stated(ZeroStar(), one, zeros).tolist() == [[np.float32(SCALE), 0]]
    assert stated(ZeroStar(), one, tiny).tolist() == [[np.float32(SCALE), pytest.approx(0, abs=1)]]
    for eta in (0.0, 0.5, 1.0):
        for conditional in (zeros, tiny):
            (pair,) = stated(Projected(eta), conditional, one)
            assert np.isfinite(pair).all()
            assert pair[1] == 1 - np.float32(SCALE)
    assert stated(Projected(0.5, 2.0), one, one).tolist() == [
        [np.float32(SCALE), 1 - np.float32(SCALE)]
    ]


def test_the_nearest_unconditional_prediction_is_taken() -> None:
    """Guidance away from c * 0.2 is guidance away from c itself: it changes nothing."""
    (one,) = random((2, 3, 1, 5, 7), 1)
    velocity = weigh(one, np.float32(0.2) * one, stated(ZeroStar(), one, np.float32(0.2) * one))
    np.testing.assert_allclose(velocity, one, rtol=2e-5)


def test_what_is_parallel_is_kept_as_far_as_eta_says() -> None:
    one, other = random((1, 3, 1, 5, 7), 2)
    plain = guide(one, other, SCALE)
    np.testing.assert_allclose(
        weigh(one, other, stated(Projected(1.0), one, other)), plain, rtol=0, atol=1e-5
    )
    half, none = (weigh(one, other, stated(Projected(eta), one, other)) for eta in (0.5, 0.0))
    np.testing.assert_allclose(half, (plain + none) / 2, rtol=0, atol=1e-5)
    along = [float((velocity - other).ravel() @ one.ravel()) for velocity in (plain, none)]
    assert abs(along[1]) < 1e-5 * abs(along[0])


@pytest.mark.parametrize("threshold", [0.5, 3.0, 1000.0])
def test_the_difference_is_no_longer_than_the_threshold(threshold: float) -> None:
    one, other = random((1, 3, 1, 5, 7), 2)
    velocity = weigh(one, other, stated(Projected(1.0, threshold), one, other))
    wanted = min(threshold, float(np.linalg.norm(one - other)))
    np.testing.assert_allclose(np.linalg.norm(velocity - other) / SCALE, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"one": (1, 9)}, "arrays of one shape"), ({"dtype": "float16"}, "arrays of one type"),
     ({"partials": (1, 4, 256)}, r"partials must be float32 \(1, 5, 256\), not"),
     ({"weights": (2,)}, r"weights must be float32 \(1, 2\), not float32 \(2,\)")],
)  # fmt: skip
def test_arrays_that_do_not_go_together(bench: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(MutoscopeError, match=message):
        bench.ops.guidance_weights(
            ZeroStar(),
            bench.room(change.get("one", (1, 8)), change.get("dtype", "float32")),
            bench.room((1, 8)),
            SCALE,
            bench.room(change.get("partials", (1, 5, 256))),
            bench.room(change.get("weights", (1, 2))),
        )
