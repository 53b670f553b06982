"""What launchers ask of the arrays they get. Each raises MutoscopeError where it is not so."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import MutoscopeError
from .device import DeviceArray

FLOATS = ("float32", "float16", "bfloat16")


def floats(array: DeviceArray) -> str:
    """The type of an array of floats, as kernels' names end."""
    expect(array.dtype in FLOATS, f"floats are needed, not {array.dtype}")
    return array.dtype


def same_shape(operation: str, arrays: Sequence[DeviceArray]) -> None:
    """Arrays of one shape."""
    shapes = {array.shape for array in arrays}
    expect(len(shapes) == 1, f"{operation}: arrays of one shape are needed, not {shapes}")


def same_dtype(operation: str, arrays: Sequence[DeviceArray]) -> None:
    """Arrays of one type."""
    dtypes = {array.dtype for array in arrays}
    expect(len(dtypes) == 1, f"{operation}: arrays of one type are needed, not {sorted(dtypes)}")


def expect_array(
    name: str, array: DeviceArray, shape: Sequence[int], dtype: str = "float32"
) -> None:
    """An array of exactly this shape and type."""
    expect(
        (array.shape, array.dtype) == (tuple(shape), dtype),
        f"{name} must be {dtype} {tuple(shape)}, not {array.dtype} {array.shape}",
    )


def expect(condition: bool, message: str) -> None:
    """A condition that the caller has to meet."""
    if not condition:
        raise MutoscopeError(message)
