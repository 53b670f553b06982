"""Pictures that a device makes are the statements', bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.frames import latent_preview, to_rgb8
from mutoscope.kernels.yuv import to_nv12, to_p010

DTYPES = ["float32", "float16", "bfloat16"]
SIZES = [(1, 1, 1), (2, 3, 5), (1, 16, 24), (3, 9, 34), (1, 1, 70), (2, 50, 2)]
ANY_FLOAT = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 1, -1, 1e-45])


def clip(frames: int, height: int, width: int) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(height)
    return generator.uniform(-1.2, 1.2, (1, 3, frames, height, width)).astype(np.float32)


def pictures(bench: Any, values: Any, dtype: str = "float32", offset: int = 0) -> list[Any]:
    """RGB8, NV12, NV12 dithered, P010, P010 dithered."""
    frames = bench.put(values, dtype, offset)
    _, _, count, height, width = values.shape
    planes = (count, -(-height // 2) * 3, width + width % 2)
    rgb = bench.room((count, height, width, 3), "uint8", offset)
    nv12 = [bench.room(planes, "uint8", offset) for _ in range(2)]
    p010 = [bench.room(planes, "uint16", offset) for _ in range(2)]
    bench.ops.to_rgb8(frames, rgb)
    for dithered in (False, True):
        bench.ops.to_nv12(frames, nv12[dithered], dithered=dithered)
        bench.ops.to_p010(frames, p010[dithered], dithered=dithered)
    return [bench.get(picture) for picture in (rgb, *nv12, *p010)]


def stated(values: Any) -> list[Any]:
    planes = [make(values, dithered=d) for make in (to_nv12, to_p010) for d in (False, True)]
    return [to_rgb8(values), *planes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 1])
def test_bits_are_the_statement_s(
    bench: Any, rounded: Any, dtype: str, size: tuple[int, int, int], offset: int
) -> None:
    values = clip(*size)
    for got, expected in zip(
        pictures(bench, values, dtype, offset), stated(rounded(values, dtype)), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), height=st.integers(1, 6), width=st.integers(1, 11))
def test_any_float_at_all(bench: Any, data: st.DataObject, height: int, width: int) -> None:
    shape = (1, 3, 1, height, width)
    values = data.draw(arrays.arrays(np.float32, shape, elements=ANY_FLOAT))
    for got, expected in zip(pictures(bench, values), stated(values), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "size"), [(1, (1, 1, 1)), (4, (2, 3, 5)), (48, (1, 8, 40))])
def test_preview_bits_are_the_statement_s(
    bench: Any, rounded: Any, dtype: str, channels: int, size: tuple[int, int, int]
) -> None:
    generator = np.random.default_rng(channels)
    latents = generator.normal(size=(1, channels, *size)).astype(np.float32)
    latents.flat[0] = np.nan
    matrix = generator.normal(size=(3, channels)).astype(np.float32) / channels
    bias = generator.normal(size=3).astype(np.float32)
    output = bench.room((*size, 3), "uint8", 1)
    bench.ops.latent_preview(
        bench.put(latents, dtype, 1), bench.put(matrix), bench.put(bias), output
    )
    expected = latent_preview(rounded(latents, dtype), matrix, bias)
    np.testing.assert_array_equal(bench.get(output), expected)


def test_an_output_of_another_size(bench: Any) -> None:
    with pytest.raises(
        MutoscopeError, match=r"output must be uint8 \(1, 6, 6\), not uint8 \(1, 5, 5\)"
    ):
        bench.ops.to_nv12(bench.room((1, 3, 1, 4, 5)), bench.room((1, 5, 5), "uint8"))


def test_floats_are_needed(bench: Any) -> None:
    with pytest.raises(MutoscopeError, match="floats are needed, not uint8"):
        bench.ops.to_rgb8(bench.room((1, 3, 1, 4, 4), "uint8"), bench.room((1, 4, 4, 3), "uint8"))
