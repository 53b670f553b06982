"""How far attention with scores in int8 is from attention in float64, on made-up inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .int8_attention import Array, exact_attention, int8_attention

Inputs = tuple[Array, Array, Array]

HEADS, QUERIES, KEYS = 4, 512, 1024
OFFSET = 20.0


def normal(size: int, seed: int = 0) -> Inputs:
    """Queries, keys and values of a normal distribution, of heads of `size` channels."""
    random = np.random.default_rng(seed)
    queries, keys, values = (
        random.standard_normal((1, HEADS, count, size), np.float32)
        for count in (QUERIES, KEYS, KEYS)
    )
    return queries, keys, values


def outlying_keys(size: int) -> Inputs:
    """One channel of the keys lies far from 0 in every token, as trained models have it."""
    queries, keys, values = normal(size)
    keys[..., size // 3] += np.float32(OFFSET)
    return queries, keys, values


def outlying_queries(size: int) -> Inputs:
    """The same of the queries."""
    queries, keys, values = normal(size)
    queries[..., size // 3] += np.float32(OFFSET)
    return queries, keys, values


def peaked(size: int) -> Inputs:
    """Scores of a standard deviation of 4: few keys have most of a query's weight."""
    queries, keys, values = normal(size)
    return queries * np.float32(4), keys, values


CASES: dict[str, Callable[[int], Inputs]] = {
    "normal": normal,
    f"a channel of the keys offset by {OFFSET:.0f}": outlying_keys,
    f"a channel of the queries offset by {OFFSET:.0f}": outlying_queries,
    "normal, scores four times as far apart": peaked,
}


def relative_error(inputs: Inputs) -> float:
    """The root mean square of the error, divided by that of the exact result."""
    exact: NDArray[np.float64] = exact_attention(*inputs)
    return float(np.linalg.norm(int8_attention(*inputs) - exact) / np.linalg.norm(exact))
