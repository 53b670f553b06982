"""What engines of Wan's models are run on: from one seed, so that what comes out is comparable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
TIMESTEP = np.float32(500)


def denoiser_inputs(shape: Sequence[int], tokens: int, width: int) -> tuple[Array, Array]:
    """Random latents and text embeddings.

    Args:
        shape: of the latents, (batch, channels, frames, height, width).
        tokens: of each text.
        width: of an embedding.
    """
    random = np.random.default_rng(0)
    latents = random.standard_normal(tuple(shape), np.float32)
    return latents, random.standard_normal((shape[0], tokens, width), np.float32)


def prompt_inputs(tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of one prompt and its mask: as long as any, the last quarter of it padding."""
    ids = np.random.default_rng(0).integers(3, 100, (1, tokens))
    mask = np.ones_like(ids)
    mask[:, tokens * 3 // 4 :] = 0
    return ids, mask


def decoder_inputs(shape: Sequence[int]) -> Array:
    """Random latents, (batch, channels, frames, height, width)."""
    return np.random.default_rng(0).standard_normal(tuple(shape), np.float32)


def keep(values: Array, precision: str, path: Path) -> None:
    """Leave what all others are set against in a .npz file, and what it was computed in."""
    np.savez(path, values=values, precision=precision)


def beside(values: NDArray[Any], kept: Path) -> dict[str, Any]:
    """`error`: the norm of what differs from those that are kept over theirs; and their precision.

    That is `reference`.
    """
    if not kept.exists():
        return {"error": f"not measured: there is no {kept.name} in the work folder"}
    with np.load(kept) as file:
        wanted, precision = file["values"].astype(np.float64), str(file["precision"])
    error = np.linalg.norm(values - wanted) / np.linalg.norm(wanted)
    return {"error": float(f"{error:.3g}"), "reference": precision}
