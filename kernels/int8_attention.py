"""Attention whose scores are products of int8, as NumPy: what the kernels compute.

Source: Zhang et al., 2024 (SageAttention and SageAttention2, arXiv 2410.02367 and 2411.10958). They
share a scale between the tokens of a block; here each token has its own (docs/decisions).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

TILE = 64
"""Keys that the softmax takes at once."""

CHUNKS = 16
LARGEST = np.float32(127)
LOG2_E = np.float32(1.44269504)


def int8_attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    scale: float | None = None,
    bias: Array | None = None,
) -> Array:
    """`softmax(queries keysᵀ scale + bias) values`, nearly.

    Values beyond float16's range become infinite. A row whose keys are all biased by -inf is NaN;
    so is all of a head that holds one NaN or infinity.

    Args:
        queries: (batch, heads, queries, size).
        keys: (batch, heads, keys, size).
        values: of the keys' shape.
        scale: by default 1 / sqrt(size).
        bias: (batch, keys), added to the scores of each key.

    Returns:
        Of the queries' shape.
    """
    log2 = log2_scale(queries.shape[-1], scale)
    halves = to_halves(values)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        query_mean, keys = token_mean(queries), keys - token_mean(keys)
        codes, factors = quantize_tokens(queries - query_mean)
        key_codes, key_scales = quantize_tokens(keys)
        biases = key_biases(keys, query_mean, log2, bias)
        factors = factors * log2
        highest = np.full((*queries.shape[:-1], 1), -np.inf, np.float32)
        total, sums = np.zeros_like(highest), np.zeros_like(queries)
        for first in range(0, keys.shape[2], TILE):
            part = np.s_[:, :, first : first + TILE]
            products = _transposed(codes, key_codes[part])
            scores = products * key_scales[part][:, :, None] * factors[..., None]
            scores += biases[part][:, :, None]
            most = np.fmax(highest, scores.max(-1, keepdims=True))
            base = np.where(np.isneginf(most), np.float32(0), most)
            weights, shrunk = np.exp2(scores - base), np.exp2(highest - base)
            rounded = weights.astype(np.float16).astype(np.float32)
            total = total * shrunk + weights.sum(-1, keepdims=True, dtype=np.float32)
            sums = sums * shrunk + rounded @ halves[part]
            highest = most
        attended: Array = np.divide(sums, total)
    return attended


def quantize_tokens(tokens: Array) -> tuple[NDArray[np.int8], Array]:
    """Codes of -127…127 by a scale for each token, ties to even.

    A token that holds a NaN or an infinity has no codes but 0, and a scale that is NaN or infinite.

    Args:
        tokens: (…, size).

    Returns:
        The codes, (…, size), and the scales, (…,), that they are to be multiplied by.
    """
    largest = np.abs(tokens).max(-1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        inverse = np.where(largest > 0, LARGEST / largest, np.float32(0))
        scaled = np.rint(tokens * inverse[..., None])
    codes = np.nan_to_num(scaled, nan=0.0, posinf=127, neginf=-127).clip(-127, 127)
    return codes.astype(np.int8), largest / LARGEST


def token_mean(tokens: Array) -> Array:
    """The mean over tokens (batch, heads, tokens, size): (batch, heads, 1, size).

    Each channel's sum has one order: 32768 / size lanes add every so manieth token, then
    neighbouring lanes are added in pairs.
    """
    *heads, count, size = tokens.shape
    lanes = CHUNKS * 2048 // size
    padded = np.zeros((*heads, -(-count // lanes) * lanes, size), np.float32)
    padded[..., :count, :] = tokens
    sums = np.zeros((*heads, lanes, size), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, padded.shape[-2], lanes):
            sums += padded[..., first : first + lanes, :]
        while sums.shape[-2] > 1:
            sums = sums[..., 0::2, :] + sums[..., 1::2, :]
        mean: Array = np.divide(sums, np.float32(count))
    return mean


def key_biases(
    keys: Array, query_mean: Array, log2: np.float32, bias: Array | None = None
) -> Array:
    """What is added to the scores to base 2 of each key: (batch, heads, keys).

    Its product with the queries' mean, which they have lost, and the caller's own bias. Each
    quarter of the channels is added in order, then the quarters in pairs.

    Args:
        keys: (batch, heads, keys, size), without their mean.
        query_mean: (batch, heads, 1, size).
        log2: what `log2_scale` gives.
        bias: (batch, keys).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        products = (keys * query_mean).reshape(*keys.shape[:-1], 4, -1)
        sums = np.zeros(products.shape[:-1], np.float32)
        for channel in range(products.shape[-1]):
            sums += products[..., channel]
        shared = (sums[..., 0] + sums[..., 1]) + (sums[..., 2] + sums[..., 3])
        found: Array = np.multiply(shared, log2)
        if bias is not None:
            found = np.add(found, bias[:, None] * LOG2_E)
    return found


def to_halves(values: Array) -> Array:
    """Values rounded to float16, as float32."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def log2_scale(size: int, scale: float | None) -> np.float32:
    """What a product of query and key is multiplied by, so that 2 to its power is the weight."""
    return np.float32(float(LOG2_E) * (size**-0.5 if scale is None else scale))


def exact_attention(
    queries: NDArray[Any], keys: NDArray[Any], values: NDArray[Any], bias: Array | None = None
) -> NDArray[np.float64]:
    """The same in float64 throughout, with the default scale: what errors are measured against."""
    queries, keys, values = (array.astype(np.float64) for array in (queries, keys, values))
    scores = _transposed(queries, keys) * queries.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias[:, None, None]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    attended: NDArray[np.float64] = weights / weights.sum(-1, keepdims=True) @ values
    return attended


def _transposed(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """The product left rightᵀ; of codes in float32, which holds their sums exactly."""
    dtype = np.float32 if left.dtype == np.int8 else left.dtype
    product: NDArray[Any] = left.astype(dtype) @ np.swapaxes(right, -1, -2).astype(dtype)
    return product
