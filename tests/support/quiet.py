"""Tests that time a program have the machine to themselves, among several workers (`-n`)."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOOR, ROOM = Path(__file__), Path(__file__).parents[1] / "conftest.py"
"""Files to lock that are there anyway. Whoever waits for the room holds the door, so that nobody
else enters meanwhile."""


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Run beside others, or alone, after those that run now and before those that come later."""
    with ROOM.open() as room:
        with DOOR.open() as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
