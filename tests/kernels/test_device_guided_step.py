"""Guidance and scheduler steps on a device give the statement's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.guided_step import guided_step, rescale_factors
from mutoscope.kernels.latents import guide
from mutoscope.kernels.sums import ordered_sum

TYPES = [("float32", "float32"), ("float16", "float32"), ("bfloat16", "float32"),
         ("float16", "float16"), ("bfloat16", "bfloat16")]  # fmt: skip
SHAPES = [(1, 4, 2, 5, 7), (2, 3, 1, 3, 3), (1, 16, 3, 16, 12), (1, 1, 1, 1, 1)]

# The value, the ends of the range and beyond, and everything in between.
ANY_FLOAT = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38])


def random(shape: tuple[int, ...], count: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype(np.float32) for _ in range(count)]


def weights(outputs: int, known: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(outputs).normal(size=(outputs, 2 + known))


def run(bench: Any, coefficients: Any, prediction: str, latents: str, offset: int, values: Any,
        known: int, *, guided: bool = True, factors: Any = None) -> list[Any]:  # fmt: skip
    """Values: latents, conditional, unconditional, then the history."""
    outputs = [bench.room(values[0].shape, latents, offset) for _ in coefficients]
    bench.ops.guided_step(
        bench.put(coefficients.astype(np.float32)),
        bench.put(values[0], latents, offset),
        bench.put(values[1], prediction, offset),
        outputs,
        unconditional=bench.put(values[2], prediction, offset) if guided else None,
        scale=4.3,
        factors=None if factors is None else bench.put(factors),
        history=[bench.put(v, latents, offset) for v in values[3 : 3 + known]],
    )
    return [bench.get(output) for output in outputs]


@pytest.mark.parametrize(("prediction", "latents"), TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0, 1])
def test_bits_are_the_statement_s(
    bench: Any, rounded: Any, prediction: str, latents: str, shape: tuple[int, ...], offset: int
) -> None:
    values = random(shape, 6)
    exact = [rounded(v, prediction if i in (1, 2) else latents) for i, v in enumerate(values)]
    for outputs, known in ((1, 0), (2, 1), (4, 3)):
        coefficients = weights(outputs, known)
        got = run(bench, coefficients, prediction, latents, offset, values, known)
        history = exact[3 : 3 + known]
        stated = guided_step(coefficients, *exact[:3], 4.3, history=history)
        assert [g.tobytes() for g in got] == [rounded(s, latents).tobytes() for s in stated]


def test_without_guidance(bench: Any) -> None:
    values = random((1, 3, 1, 5, 5), 3)
    (got,) = run(bench, weights(1, 0), "float32", "float32", 0, values, 0, guided=False)
    (stated,) = guided_step(weights(1, 0), *values[:2])
    assert got.tobytes() == stated.tobytes()


@settings(max_examples=25, deadline=None)
@given(data=st.data(), count=st.integers(1, 19))
def test_any_float_at_all(bench: Any, data: st.DataObject, count: int) -> None:
    values = [data.draw(arrays.arrays(np.float32, (1, count), elements=ANY_FLOAT))
              for _ in range(4)]  # fmt: skip
    with np.errstate(all="ignore"):
        stated = guided_step(weights(2, 1), *values[:3], 4.3, history=values[3:])
    got = run(bench, weights(2, 1), "float32", "float32", 0, values, 1)
    np.testing.assert_array_equal(got, stated)


def test_an_output_may_be_an_input(bench: Any) -> None:
    values = random((1, 2, 1, 9, 5), 4)
    latents, conditional, unconditional, past = map(bench.put, values)
    table = weights(2, 1)
    bench.ops.guided_step(
        bench.put(table.astype(np.float32)), latents, conditional, [past, latents],
        unconditional=unconditional, scale=2.0, history=[past],
    )  # fmt: skip
    stated = guided_step(table, *values[:3], 2.0, history=values[3:])
    assert bench.get(past).tobytes() == stated[0].tobytes()
    assert bench.get(latents).tobytes() == stated[1].tobytes()


@pytest.mark.parametrize("prediction", ["float32", "float16", "bfloat16"])
def test_rescaled_guidance(bench: Any, rounded: Any, prediction: str) -> None:
    values = random((2, 4, 3, 15, 13), 3, seed=3)
    exact = [values[0], *(rounded(v, prediction) for v in values[1:])]
    partials, factors = bench.room((2, 4, 256)), bench.room((2,))
    conditional, unconditional = (bench.put(v, prediction, 1) for v in values[1:])
    bench.ops.rescale_factors(conditional, unconditional, 4.3, 0.7, partials, factors)
    expected = rescale_factors(exact[1], guide(exact[1], exact[2], 4.3), 0.7)
    assert bench.get(factors).tobytes() == expected.tobytes()
    assert np.all(np.abs(expected - 0.47) < 0.05)
    got = run(bench, weights(1, 0), prediction, "float32", 0, values, 0, factors=expected)
    stated = guided_step(weights(1, 0), *exact, 4.3, rescale=0.7)
    assert got[0].tobytes() == stated[0].tobytes()


def test_rescaling_gives_the_spread_of_the_conditional_prediction() -> None:
    latents, conditional, unconditional = random((2, 4, 3, 15, 13), 3)
    (velocity,) = guided_step(
        np.array([[0, 1]]), latents, conditional, unconditional, 6.0, rescale=1.0
    )
    np.testing.assert_allclose(
        velocity.std(axis=(1, 2, 3, 4)), conditional.std(axis=(1, 2, 3, 4)), rtol=1e-5
    )


def test_a_prediction_without_spread_is_not_rescaled() -> None:
    flat = np.ones((1, 5), np.float32)
    assert rescale_factors(flat, flat, 1.0).tolist() == [1.0]
    assert ordered_sum(flat[0]) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [({"history": 4}, "at most 3 arrays of history"), ({"outputs": 0}, "and 4 outputs"),
     ({"shape": (1, 9)}, "arrays of one shape"), ({"latents": "bfloat16"}, "no kernel for float16"),
     ({"rows": 3}, r"coefficients must be float32 \(1, 2\), not float32 \(3, 2\)")],
)  # fmt: skip
def test_arrays_that_do_not_go_together(bench: Any, change: dict[str, Any], message: str) -> None:
    history, outputs = change.get("history", 0), change.get("outputs", 1)
    dtype = change.get("latents", "float32")
    with pytest.raises(MutoscopeError, match=message):
        bench.ops.guided_step(
            bench.room((change.get("rows", outputs), 2 + history)),
            bench.room(change.get("shape", (1, 8)), dtype),
            bench.room((1, 8), "float16"),
            [bench.room((1, 8), dtype) for _ in range(outputs)],
            history=[bench.room((1, 8), dtype) for _ in range(history)],
        )
