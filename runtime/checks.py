"""Checks of single values from outside: each returns the value, or says what is wrong with it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import UserError


def integer(name: str, value: Any, least: int, most: int) -> int:
    """A whole number between two bounds.

    Raises:
        UserError: not a whole number, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{name} must be a whole number, not {_shown(value)}")
    if not least <= int(value) <= most:
        raise UserError(f"{name} must be between {least} and {most}, not {_shown(value)}")
    return int(value)


def number(name: str, value: Any, least: float, most: float, *, open_below: bool = False) -> float:
    """A finite number between two bounds; `open_below` leaves the lower one out.

    Raises:
        UserError: not a number, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{name} must be a number, not {_shown(value)}")
    try:
        given = float(value)
    except OverflowError:
        given = math.inf
    fits = least < given <= most if open_below else least <= given <= most
    if not math.isfinite(given) or not fits:
        bounds = f"above {least:g}" if open_below else f"{least:g} or more"
        raise UserError(f"{name} must be {bounds} and at most {most:g}, not {given:g}")
    return given


def interval(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """Two finite numbers between two bounds, the first not above the second.

    Raises:
        UserError: not two numbers, out of bounds, or the wrong way round.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise UserError(f"{name} must be two numbers, not {_shown(value)}")
    start, stop = (number(name, end, least, most) for end in value)
    if start > stop:
        raise UserError(f"{name} must begin before it ends, not at {start:g} and {stop:g}")
    return start, stop


def falling(name: str, value: Any, most: float, *, count: int) -> tuple[float, ...]:
    """At most `count` numbers above 0, the first at most `most`, each below the one before.

    Raises:
        UserError: no such numbers.
    """
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise UserError(f"{name} must be numbers, e.g. (1, 0.75, 0.5, 0.25), not {_shown(value)}")
    if len(value) > count:
        raise UserError(f"{name} are {len(value):,}; at most {count:,} are taken")
    given = tuple(number(name, each, 0, most, open_below=True) for each in value)
    for one, following in pairwise(given):
        if following >= one:
            raise UserError(f"{name} must fall, {following:g} comes after {one:g}")
    return given


def multiple(name: str, value: Any, step: int, most: int) -> int:
    """A positive multiple of `step`, in pixels.

    Raises:
        UserError: not one; names the nearest two.
    """
    given = integer(name, value, 1, most)
    if given % step:
        below, above = given // step * step, (given // step + 1) * step
        near = [str(size) for size in (below, above) if 0 < size <= most]
        raise UserError(
            f"{name} must be a multiple of {step}, {given} is not: use {' or '.join(near)}"
        )
    return given


def frame_count(value: Any, compression: int, most: int) -> int:
    """A number of frames that fills whole latent frames: a multiple of the compression, plus one.

    Raises:
        UserError: not one; names the nearest two.
    """
    given = integer("frames", value, 1, most)
    if (given - 1) % compression:
        below = (given - 1) // compression * compression + 1
        near = [str(count) for count in (below, below + compression) if count <= most]
        raise UserError(f"frames must be {compression}n+1, {given} is not: use {' or '.join(near)}")
    return given


def truth(name: str, value: Any) -> bool:
    """Yes or no.

    Raises:
        UserError: something else.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} must be True or False, not {_shown(value)}")
    return value


def text(name: str, value: Any, most: int) -> str:
    """A string of bounded length, in characters.

    Raises:
        UserError: not a string, or too long.
    """
    if not isinstance(value, str):
        raise UserError(f"{name} must be text, not {_shown(value)}")
    if len(value) > most:
        raise UserError(f"{name} has {len(value):,} characters; at most {most:,} are taken")
    return value


def _shown(value: Any) -> str:
    try:
        shown = " ".join(repr(value).split())
    except ValueError:  # Python does not print numbers of thousands of digits
        return "a number of thousands of digits"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
