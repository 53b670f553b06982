"""Tiles on a device: the statements' bits, and nothing else touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.tiles import add_tile, take_tile

DTYPES = ["float32", "float16", "bfloat16"]
CASES = [
    ((1, 4, 1, 9, 13), (3, 4), (2, 5)),
    ((1, 16, 1, 24, 40), (8, 16), (16, 24)),
    ((1, 3, 4, 33, 50), (0, 0), (33, 50)),
    ((1, 3, 1, 5, 21), (4, 20), (1, 1)),
]


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "place", "size"), CASES)
@pytest.mark.parametrize("offset", [0, 1])
def test_a_tile_is_taken(
    bench: Any,
    rounded: Any,
    dtype: str,
    shape: tuple[int, ...],
    place: tuple[int, int],
    size: tuple[int, int],
    offset: int,
) -> None:
    frame = random(*shape)
    tile = bench.room((*shape[:-2], *size), dtype, offset)
    bench.ops.take_tile(bench.put(frame, dtype, offset), *place, tile)
    assert bench.get(tile).tobytes() == take_tile(rounded(frame, dtype), *place, *size).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "place", "size"), CASES)
@pytest.mark.parametrize("offset", [0, 1])
def test_a_tile_is_added(
    bench: Any,
    rounded: Any,
    dtype: str,
    shape: tuple[int, ...],
    place: tuple[int, int],
    size: tuple[int, int],
    offset: int,
) -> None:
    canvas, tile = random(*shape), random(*shape[:-2], *size, seed=1)
    down, across = random(size[0], seed=2), random(size[1], seed=3)
    there, added = (bench.put(values, dtype, offset) for values in (canvas, tile))
    weights = [bench.put(values, offset=offset) for values in (down, across)]
    bench.ops.add_tile(there, added, *weights, *place)
    wanted = rounded(canvas, dtype)
    add_tile(wanted, rounded(tile, dtype), down, across, *place)
    assert bench.get(there).tobytes() == rounded(wanted, dtype).tobytes()


def test_a_tile_that_does_not_fit(bench: Any) -> None:
    frame = bench.room((1, 4, 1, 8, 8))
    with pytest.raises(MutoscopeError, match="a tile of 4x4 at 5, 0 is not within 8x8"):
        bench.ops.take_tile(frame, 5, 0, bench.room((1, 4, 1, 4, 4)))
    with pytest.raises(MutoscopeError, match=r"tile must be float32 \(1, 4, 1, 4, 4\)"):
        bench.ops.take_tile(frame, 0, 0, bench.room((1, 3, 1, 4, 4)))
    with pytest.raises(MutoscopeError, match="tile must be float32 .*, not float16"):
        bench.ops.take_tile(frame, 0, 0, bench.room((1, 4, 1, 4, 4), "float16"))
    with pytest.raises(MutoscopeError, match="floats are needed, not uint8"):
        bench.ops.take_tile(bench.room((1, 4, 1, 8, 8), "uint8"), 0, 0, frame)
