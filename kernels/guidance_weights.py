"""Guidance that weighs the two predictions by what they are: a pair of weights an item.

Plain guidance, `latents.guide`, knows its scale alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .sums import ordered_sum

Array = NDArray[np.float32]

ZERO_STAR_FLOOR = np.float32(1e-8)
"""Added to the square of the unconditional prediction, so that one of zeros is divided by."""
PROJECTED_FLOOR = np.float32(1e-24)
"""The least square of a conditional prediction that is projected on."""


@dataclass(frozen=True)
class ZeroStar:
    """CFG-Zero*: the unconditional prediction is first scaled to be as near as it can come.

    `a * u + scale * (c - a * u)`, `a = <c, u> / <u, u>`. Source: Fan et al., 2025 (arXiv
    2503.18886); diffusers, `guiders/classifier_free_zero_star_guidance.py`.
    """

    def weights(self, conditional: Array, unconditional: Array, scale: float) -> Array:
        """Of one item's predictions, float32 (2,)."""
        along = ordered_sum(conditional * unconditional)
        square = ordered_sum(unconditional * unconditional)
        return zero_star_weights(along, square, np.float32(scale))


@dataclass(frozen=True)
class Projected:
    """Adaptive projected guidance (APG), without momentum.

    `u + scale * (orthogonal + eta * parallel)`, the two parts of `c - u` as seen from c. Source:
    Sadat et al., 2024 (arXiv 2410.02416); diffusers, `guiders/adaptive_projected_guidance.py`.

    Attributes:
        eta: how much of the parallel part is kept, 0 to 1.
        norm_threshold: the greatest norm of `c - u`, which is shrunk to it; 0 for none.
    """

    eta: float = 0.0
    norm_threshold: float = 0.0

    def weights(self, conditional: Array, unconditional: Array, scale: float) -> Array:
        """Of one item's predictions, float32 (2,)."""
        difference = conditional - unconditional
        return projected_weights(
            ordered_sum(difference * difference),
            ordered_sum(difference * conditional),
            ordered_sum(conditional * conditional),
            *map(np.float32, (scale, self.eta, self.norm_threshold)),
        )


Variant: TypeAlias = ZeroStar | Projected


def guidance_weights(
    variant: Variant, conditional: Array, unconditional: Array, scale: float
) -> Array:
    """The weights of the two predictions, float32 (batch, 2).

    A NaN in an item makes NaN of its weights, and so of its whole velocity, as in diffusers; so do
    infinities, and squares beyond float32.
    """
    items = zip(conditional, unconditional, strict=True)
    return np.stack([variant.weights(one, other, scale) for one, other in items])


def zero_star_weights(along: np.float32, square: np.float32, scale: np.float32) -> Array:
    """Of `<c, u>` and `<u, u>`."""
    nearest = along / (square + ZERO_STAR_FLOOR)
    return np.array([scale, nearest * (np.float32(1) - scale)])


def projected_weights(
    difference: np.float32,
    along: np.float32,
    square: np.float32,
    scale: np.float32,
    eta: np.float32,
    norm_threshold: np.float32,
) -> Array:
    """Of `<d, d>`, `<d, c>` and `<c, c>`, where d is `c - u`."""
    one, norm = np.float32(1), np.sqrt(difference)
    kept = norm_threshold / norm if 0 < norm_threshold < norm else one
    parallel = kept * (along / max(PROJECTED_FLOOR, square))  # which is the floor for a NaN
    return np.array([scale * (kept + (eta - one) * parallel), one - scale * kept])


def weigh(conditional: Array, unconditional: Array, weights: Array) -> Array:
    """`weights[:, 0] * conditional + weights[:, 1] * unconditional`."""
    one, other = weights.T.reshape(2, -1, *[1] * (conditional.ndim - 1))
    weighed: Array = one * conditional + other * unconditional
    return weighed
