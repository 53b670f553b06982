"""The course of each travelling motion over a clip, as the world draws and the scorer expects it.

Times run from 0 to 1, y downwards. Angles and lengths are free: only the form is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.floating[Any]]

SPRING = 0.45
"""The share of its speed that a falling object keeps when it springs up from the ground."""


def bounce(time: Curve) -> Curve:
    """Height above the floor, from 0 to 1: down at a quarter and at three quarters of the clip."""
    return np.asarray(np.abs(np.cos(2 * np.pi * time)))


def fall(time: Curve, landing: float) -> Curve:
    """Depth below the start, from 0 to 1: gathers speed, lands at `landing`, springs up once."""
    since = np.clip((time - landing) / landing, 0, 2 * SPRING)
    return np.where(time < landing, (time / landing) ** 2, 1 - since * (2 * SPRING - since))


def orbit(time: Curve, start: float) -> tuple[Curve, Curve]:
    """Once around, clockwise as seen, from the angle `start`: x and y on the unit circle."""
    turn = start + 2 * np.pi * time
    return np.cos(turn), np.sin(turn)
