"""Normal noise from a counter: element i depends on the seed, the stream and i, nothing else.

Philox4x32-10 makes the bits, Wichura's AS241 turns each 32 of them into a normal deviate. Only IEEE
additions, multiplications, divisions and square roots in float64 are used, never a library's
logarithm, so every platform gives the same bits. CUDA must not fuse them (`--fmad=false`).

Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Random123); Wichura,
"Algorithm AS 241: the percentage points of the normal distribution", 1988 (PPND16).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

Words = NDArray[np.uint64]
Doubles = NDArray[np.float64]

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)

# Small enough for the working arrays to stay in the second-level cache; a multiple of 4.
CHUNK = 1 << 15

# AS241's rational approximations, highest power first.
CENTRAL = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
        4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
        1.3314166789178437745e2, 3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
        2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
        4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
TAIL = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
        1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
        4.63033784615654529590e0, 1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
        2.05319162663775882187e0, 1.0,
    ),
)  # fmt: skip

LN2 = 0.693147180559945309417
SQRT_HALF = 0.707106781186547524401
# 2 atanh(s) = 2 s (1 + s²/3 + s⁴/5 + …): with |s| < 0.172 the next term is below 2**-56.
ATANH = tuple(2.0 / power for power in range(21, 0, -2))


def standard_normal(seed: int, shape: tuple[int, ...], stream: int = 0) -> NDArray[np.float32]:
    """Normal deviates of mean 0 and variance 1, the same bits on every platform.

    They are numbered in C order, so arrays of one seed agree in flat order only: a longer clip
    begins with another's values where the axes before the longer one have length 1.

    Args:
        seed: 0 ≤ seed < 2**64.
        shape: of the result.
        stream: 0 ≤ stream < 2**64; each gives an independent sequence of the same seed.

    Returns:
        float32 of that shape; no value is beyond ±6.34.

    Raises:
        UserError: the seed or the stream is out of range.
    """
    count = math.prod(shape)
    values = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        values[start:stop] = standard_normal_range(seed, start, stop, stream)
    return values.reshape(shape)


def standard_normal_range(seed: int, start: int, stop: int, stream: int = 0) -> NDArray[np.float32]:
    """Elements `start` to `stop` of the sequence that `standard_normal` begins.

    Raises:
        UserError: the seed or the stream is out of range.
    """
    first, last = start // 4, -(-stop // 4)
    blocks = np.arange(first, last, dtype=np.uint64)
    low, high = _halves("stream", stream)
    counter = (blocks & LOW, blocks >> HALF, np.full_like(blocks, low), np.full_like(blocks, high))
    words = np.stack(philox4x32(counter, _halves("seed", seed)), axis=-1).reshape(-1)
    uniform = (words[start - 4 * first : stop - 4 * first].astype(np.float64) + 0.5) * 2.0**-32
    return inverse_normal(uniform).astype(np.float32)


def philox4x32(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10: four 32-bit random words for every counter, each in a uint64.

    Args:
        counter: four arrays of one shape, 32-bit words in uint64, the lowest first.
        key: two 32-bit words, the lowest first.
    """
    c0, c1, c2, c3 = counter
    for turn in range(ROUNDS):
        k0, k1 = (np.uint64((k + turn * w) & 0xFFFFFFFF) for k, w in zip(key, WEYL, strict=True))
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
    return c0, c1, c2, c3


def inverse_normal(probability: Doubles) -> Doubles:
    """The standard normal quantile, relative error about 1e-16, for 2**-33 ≤ p ≤ 1 - 2**-33.

    AS241 has a third branch for p below 1.4e-11, which 32 bits never reach.
    """
    offset = probability - 0.5
    result = offset * _rational(CENTRAL, 0.180625 - offset * offset)
    outer = np.flatnonzero(np.abs(offset) > 0.425)
    tail = probability[outer]
    depth = np.sqrt(-_log(np.minimum(tail, 1.0 - tail)))
    result[outer] = np.copysign(_rational(TAIL, depth - 1.6), offset[outer])
    return result


def _log(x: Doubles) -> Doubles:
    mantissa, exponent = np.frexp(x)
    low = mantissa < SQRT_HALF
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    series = ratio * _polynomial(ATANH, ratio * ratio)
    return series + (exponent - low).astype(np.float64) * LN2


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Doubles) -> Doubles:
    above, below = coefficients
    return _polynomial(above, x) / _polynomial(below, x)


def _polynomial(coefficients: tuple[float, ...], x: Doubles) -> Doubles:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value


def _halves(name: str, value: int) -> tuple[int, int]:
    if not 0 <= value < 2**64:
        raise UserError(f"{name} must be between 0 and {2**64 - 1}, not {value}")
    return value & 0xFFFFFFFF, value >> 32
