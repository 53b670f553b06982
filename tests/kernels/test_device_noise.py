"""The noise kernel gives the statement's bits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.noise import standard_normal, standard_normal_range

WORDS = st.integers(0, 2**64 - 1)


@settings(max_examples=25, deadline=None)
@given(seed=WORDS, stream=WORDS, start=st.integers(0, 2**40), count=st.integers(0, 70),
       offset=st.integers(0, 4))  # fmt: skip
def test_bits_are_the_statement_s(
    bench: Any, seed: int, stream: int, start: int, count: int, offset: int
) -> None:
    output = bench.room((count,), offset=offset)
    bench.ops.standard_normal(seed, output, stream=stream, start=start)
    expected = standard_normal_range(seed, start, start + count, stream)
    assert bench.get(output).tobytes() == expected.tobytes()


def test_bits_of_a_clip(bench: Any) -> None:
    output = bench.room((1, 16, 3, 31, 17))
    bench.ops.standard_normal(2**64 - 1, output, stream=7)
    expected = standard_normal(2**64 - 1, (1, 16, 3, 31, 17), stream=7)
    assert bench.get(output).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_types_are_rounded_once(bench: Any, rounded: Any, dtype: str) -> None:
    output = bench.room((1003,), dtype, offset=1)
    bench.ops.standard_normal(5, output, start=3)
    expected = rounded(standard_normal_range(5, 3, 1006), dtype)
    assert bench.get(output).tobytes() == expected.tobytes()


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 2**64}, {"seed": 0, "stream": 2**64},
                                       {"seed": 0, "start": 2**64 - 3}])  # fmt: skip
def test_numbers_out_of_range(bench: Any, arguments: dict[str, int]) -> None:
    with pytest.raises(MutoscopeError, match="numbered from 0"):
        bench.ops.standard_normal(output=bench.room((4,)), **arguments)
