"""One frame of a clip's latents on a device: the statement's bits, and nothing else touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.latents import hold_first, latent_frame

DTYPES = ["float32", "float16", "bfloat16"]
SHAPES = [(1, 4, 2, 5, 7), (1, 16, 3, 16, 24), (1, 2, 1, 1, 1), (1, 3, 2, 60, 104)]


def random(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0, 1])
def test_a_frame_is_taken_out_denormalized(
    bench: Any, rounded: Any, dtype: str, shape: tuple[int, ...], offset: int
) -> None:
    latents, mean, std = random(shape, 0), random(shape[1:2], 1), random(shape[1:2], 2)
    there = bench.put(latents, dtype, offset)
    for index in range(shape[2]):
        output = bench.room((*shape[:2], 1, *shape[3:]), dtype, offset)
        bench.ops.latent_frame(there, index, bench.put(mean), bench.put(std), output)
        stated = rounded(latent_frame(rounded(latents, dtype), index, mean, std), dtype)
        assert bench.get(output).tobytes() == stated.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0, 1])
def test_the_first_frame_is_held(
    bench: Any, rounded: Any, dtype: str, shape: tuple[int, ...], offset: int
) -> None:
    latents, first = random(shape, 0), random((*shape[:2], 1, *shape[3:]), 1)
    there = bench.put(latents, dtype, offset)
    bench.ops.hold_first(there, bench.put(first, dtype, offset))
    assert bench.get(there).tobytes() == rounded(hold_first(latents, first), dtype).tobytes()


def test_frames_that_do_not_go_together(bench: Any) -> None:
    latents, few = bench.room((1, 4, 2, 3, 3)), bench.room((4,))
    with pytest.raises(MutoscopeError, match="there is no latent frame 2 of 2"):
        bench.ops.latent_frame(latents, 2, few, few, bench.room((1, 4, 1, 3, 3)))
    with pytest.raises(MutoscopeError, match=r"frame must be float32 \(1, 4, 1, 3, 3\)"):
        bench.ops.hold_first(latents, bench.room((1, 4, 1, 3, 2)))
    with pytest.raises(MutoscopeError, match="frame must be float32 .*, not bfloat16"):
        bench.ops.hold_first(latents, bench.room((1, 4, 1, 3, 3), "bfloat16"))
