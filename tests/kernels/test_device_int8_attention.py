"""Attention in int8 on a device: what is prepared has the statement's bits, the rest is near."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mutoscope.errors import MutoscopeError
from mutoscope.kernels import __main__ as command
from mutoscope.kernels import attention_error
from mutoscope.kernels.attention_error import (
    normal,
    outlying_keys,
    outlying_queries,
    relative_error,
)
from mutoscope.kernels.attention_ops import split_workspace, workspace_bytes
from mutoscope.kernels.int8_attention import (
    TILE,
    exact_attention,
    int8_attention,
    key_biases,
    log2_scale,
    quantize_tokens,
    to_halves,
    token_mean,
)

# A weight that lies between two float16 may be rounded to either, as powers of 2 differ in their
# last bits: 2^-11 of it. All weights of a row do not, nor all in one direction.
NEAR = 2.0**-13
ROUNDING = {"float32": 2.0**-23, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    return np.float32(scale) * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs(heads: tuple[int, int], queries: int, keys: int, size: int) -> list[Any]:
    lengths = (queries, keys, keys)
    return [random(*heads, length, size, seed=i) for i, length in enumerate(lengths)]


class Run:
    """Attention of arrays on a device: `output`, and what was prepared for it."""

    def __init__(
        self,
        bench: Any,
        arrays: list[Any],
        dtype: str = "float32",
        offset: int = 0,
        bias: Any = None,
        scale: float | None = None,
    ) -> None:
        queries, keys, values = (bench.put(array, dtype, offset) for array in arrays)
        workspace = bench.room((workspace_bytes(*keys.shape),), "uint8")
        output = bench.room(queries.shape, dtype, offset)
        there = None if bias is None else bench.put(bias)
        bench.ops.int8_attention(queries, keys, values, workspace, output, scale=scale, bias=there)
        self.output = bench.get(output)
        raw, parts = bench.get(workspace), split_workspace(keys.shape, workspace)
        first = {name: part.pointer - workspace.pointer for name, part in parts.items()}
        self.heads, self.size = keys.shape[0] * keys.shape[1], keys.shape[3]
        self.scales = raw[first["scales"] : first["biases"]].view(np.float32)
        self.biases = raw[first["biases"] : first["tiles"]].view(np.float32)
        self.tiles = raw[first["tiles"] :].reshape(-1, TILE * self.size * 3)

    def keys(self) -> Any:
        """The codes (heads, keys, size), read by what a matrix product's lanes hold."""
        each = min(4, self.size // 16)
        lanes = self.tiles[:, : TILE * self.size].view(np.int8)
        # matrix, part, quad, place, word, byte → token: quad's place, matrix, parity; channel
        lanes = lanes.reshape(-1, 8, self.size // 16 // each, 4, 2, 4, each, 4)
        ordered = lanes.transpose(0, 3, 1, 4, 5, 2, 6, 7)
        return ordered.reshape(self.heads, -1, self.size)

    def values(self) -> Any:
        """The values (heads, keys, size), likewise."""
        lanes = self.tiles[:, TILE * self.size :].copy().view(np.float16)
        # matrix, part, quad, place, word, half → key: place, part, word, half; channel
        lanes = lanes.reshape(-1, self.size // 8, 2, 4, 2, 4, 4, 2)
        ordered = lanes.transpose(0, 5, 2, 6, 7, 3, 1, 4)
        return ordered.reshape(self.heads, -1, self.size).astype(np.float32)


def near(got: Any, stated: Any, values: Any, dtype: str) -> None:
    """Equal within what may differ; NaN where the statement has NaN."""
    apart = NEAR * np.abs(values).max() + ROUNDING[dtype] * np.abs(stated)
    assert np.array_equal(np.isnan(got), np.isnan(stated))
    assert (np.nan_to_num(np.abs(got - stated)) <= np.nan_to_num(apart)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_prepared_bits_and_results_are_the_statement_s(
    bench: Any, rounded: Any, dtype: str, size: int
) -> None:
    arrays = [rounded(array, dtype) for array in inputs((1, 2), 19, 77, size)]
    run = Run(bench, arrays, dtype, offset=size // 32)
    queries, keys, values = arrays
    keys = keys - token_mean(keys)
    codes, scales = quantize_tokens(keys)
    biases = key_biases(keys, token_mean(queries), log2_scale(size, None))
    assert np.array_equal(run.keys()[:, :77], codes.reshape(2, 77, size))
    assert np.array_equal(run.scales.reshape(2, -1)[:, :77], scales.reshape(2, 77))
    assert np.array_equal(run.biases.reshape(2, -1)[:, :77], biases.reshape(2, 77))
    assert np.isneginf(run.biases.reshape(2, -1)[:, 77:]).all()
    assert np.array_equal(run.values()[:, :77], to_halves(values).reshape(2, 77, size))
    assert not run.values()[:, 77:].any()
    near(run.output, int8_attention(*arrays), values, dtype)


@pytest.mark.parametrize(
    ("heads", "queries", "keys"), [((2, 2), 1, 1), ((1, 1), 131, 64), ((2, 1), 16, 200)]
)
def test_lengths_and_tails(bench: Any, heads: tuple[int, int], queries: int, keys: int) -> None:
    arrays = inputs(heads, queries, keys, 32)
    near(Run(bench, arrays).output, int8_attention(*arrays), arrays[2], "float32")


def test_more_keys_than_lanes_of_their_sum(bench: Any) -> None:
    arrays = inputs((1, 1), 3, 300, 128)
    run, (codes, _) = Run(bench, arrays), quantize_tokens(arrays[1] - token_mean(arrays[1]))
    assert np.array_equal(run.keys()[:, :300], codes[0])
    near(run.output, int8_attention(*arrays), arrays[2], "float32")


def test_bias_and_scale(bench: Any) -> None:
    arrays = inputs((2, 2), 5, 70, 32)
    bias = random(2, 70, seed=5)
    bias[0, :66] = -np.inf
    stated = int8_attention(*arrays, bias=bias, scale=0.3)
    near(Run(bench, arrays, bias=bias, scale=0.3).output, stated, arrays[2], "float32")
    assert np.abs(stated - int8_attention(*arrays, bias=bias)).max() > 0.01


def test_no_key_counts(bench: Any) -> None:
    arrays = inputs((1, 1), 2, 3, 32)
    bias = np.full((1, 3), -np.inf, np.float32)
    assert np.isnan(Run(bench, arrays, bias=bias).output).all()
    assert np.isnan(int8_attention(*arrays, bias=bias)).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e-45, 0.0, 3e38])
def test_the_ends_of_the_scale(bench: Any, odd: float) -> None:
    arrays = inputs((1, 2), 3, 5, 32)
    arrays[0][0, 0, 1] = odd
    arrays[1][0, 1] = odd
    near(Run(bench, arrays).output, int8_attention(*arrays), arrays[2], "float32")


def test_values_beyond_half_precision_are_infinite(bench: Any) -> None:
    arrays = inputs((1, 1), 2, 3, 32)
    arrays[2][0, 0, :, 4] = 1e5
    assert np.isposinf(Run(bench, arrays).output[..., 4]).all()
    assert np.isfinite(np.delete(int8_attention(*arrays), 4, -1)).all()


def test_scores_that_lie_far_apart(bench: Any) -> None:
    arrays = inputs((1, 1), 4, 130, 64)
    arrays[0] *= 40
    near(Run(bench, arrays).output, int8_attention(*arrays), arrays[2], "float32")


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("case", [normal, outlying_keys, outlying_queries])
def test_the_error_is_below_one_percent(size: int, case: Callable[[int], Any]) -> None:
    assert relative_error(case(size)) < 0.01


def test_the_command_prints_the_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_error, "QUERIES", 64)
    monkeypatch.setattr(attention_error, "KEYS", 64)
    done = CliRunner().invoke(command.main, ["attention-error"])
    assert done.exit_code == 0, done.output
    assert re.search(r"^\| normal \|( 0\.\d\d% \|){3}$", done.output, re.MULTILINE)


def test_without_the_mean_an_outlying_channel_would_not_be() -> None:
    queries, keys, values = inputs((1, 2), 64, 512, 64)
    keys[..., 3] += 20
    codes, scales = quantize_tokens(keys)
    exact = exact_attention(queries, keys, values)
    got = exact_attention(queries, codes * scales[..., None], values)
    assert np.linalg.norm(got - exact) > 0.02 * np.linalg.norm(exact)


def test_arrays_that_do_not_go_together(bench: Any) -> None:
    def attend(queries: Any, keys: Any, **changed: Any) -> None:
        given = {"workspace": bench.room((1 << 16,), "uint8"), "output": queries} | changed
        bench.ops.int8_attention(queries, keys, keys, **given)

    room, rows = bench.room((1, 2, 4, 32)), bench.room((1, 2, 5, 32))
    with pytest.raises(MutoscopeError, match=r"heads of \(32, 64, 128\) channels, not 48"):
        attend(bench.room((1, 2, 4, 48)), bench.room((1, 2, 5, 48)))
    with pytest.raises(MutoscopeError, match=r"keys must be float32 \(1, 2, 5, 32\)"):
        attend(room, bench.room((1, 1, 5, 32)))
    with pytest.raises(MutoscopeError, match="no empty arrays"):
        attend(room, bench.room((1, 2, 0, 32)))
    with pytest.raises(MutoscopeError, match=r"uint8, of at least \d+ bytes"):
        attend(room, rows, workspace=bench.room((16,), "uint8"))
    with pytest.raises(MutoscopeError, match="divisible by 16"):
        attend(room, rows, workspace=bench.room((1 << 16,), "uint8", offset=1))
    with pytest.raises(MutoscopeError, match=r"bias must be float32 \(1, 5\)"):
        attend(room, rows, bias=bench.room((5,)))
