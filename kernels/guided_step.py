"""Guidance and one scheduler step together: what a device does in one pass over the latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .guidance_weights import Variant, guidance_weights, weigh
from .latents import guide
from .linear import combine
from .sums import ordered_sum

Array = NDArray[np.float32]


def guided_step(
    coefficients: NDArray[np.float64],
    latents: Array,
    conditional: Array,
    unconditional: Array | None = None,
    scale: float = 1.0,
    rescale: float = 0.0,
    history: Sequence[Array] = (),
    variant: Variant | None = None,
) -> tuple[Array, ...]:
    """The next latents and the next history, each a weighted sum.

    Args:
        coefficients: (outputs, 2 + length of the history): of latents, velocity, history.
        latents: (batch, channels, frames, height, width), as are
        conditional: the denoiser's prediction, and
        unconditional: the one it is guided away from; `None` takes `conditional` as it is.
        scale: the guidance scale.
        rescale: how far the guided prediction gets the spread of the conditional one, 0 to 1.
        history: more arrays of that shape.
        variant: weighs the predictions by what they are; `None` for plain guidance.
    """
    velocity = conditional
    if unconditional is not None:
        if variant is None:
            velocity = guide(conditional, unconditional, scale)
        else:
            weights = guidance_weights(variant, conditional, unconditional, scale)
            velocity = weigh(conditional, unconditional, weights)
        if rescale:
            factors = rescale_factors(conditional, velocity, rescale)
            velocity = velocity * factors.reshape(-1, *[1] * (velocity.ndim - 1))
    return combine(coefficients, (latents, velocity, *history))


def rescale_factors(conditional: Array, guided: Array, rescale: float) -> Array:
    """What rescaled guidance multiplies each item of a batch with, float32 (batch,).

    `rescale * (std of conditional / std of guided) + 1 - rescale`; the ratio is 1 where `guided`
    has no spread. Source: Lin et al., 2023 (arXiv 2305.08891), section 3.4.
    """
    portion = np.float32(rescale)
    ratios = [_spread_ratio(one, other) for one, other in zip(conditional, guided, strict=True)]
    return portion * np.asarray(ratios, np.float32) + (np.float32(1) - portion)


def _spread_ratio(one: Array, other: Array) -> np.float32:
    below = _variance(other)
    return np.sqrt(_variance(one) / below) if below > 0 else np.float32(1)


def _variance(values: Array) -> np.float32:
    count = np.float32(values.size)
    total = ordered_sum(values)
    spread = (ordered_sum(values * values) - total * total / count) / count
    return np.float32(0) if spread < 0 else np.float32(spread)
