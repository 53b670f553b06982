"""What the rules of operators share: inputs that may be absent, contents that may be unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .graph import Value

Inputs = Sequence[Value | None]
MAX_COMPUTED = 4096
"""Elements; tensors that shapes are computed from are far smaller."""


def need(value: Value | None) -> Value:
    """An input that an operator cannot do without."""
    if value is None:
        raise ValueError("an input is missing")
    return value


def content(value: Value | None) -> NDArray[Any]:
    """The elements of an input that decides a shape."""
    known = need(value).content
    if known is None:
        raise ValueError("its shape depends on values that are not known before a run")
    return known


def ints(value: Value | None) -> list[int]:
    """The same, whole numbers in a row."""
    return [int(number) for number in content(value).reshape(-1)]
