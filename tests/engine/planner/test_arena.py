from __future__ import annotations

import pytest
from mutoscope.engine.planner.arena import Arena

MB = 1 << 20


def test_only_what_was_used_is_resident() -> None:
    arena = Arena()
    arena.allocate(1000)
    assert arena.resident == 1024  # of a region of 1 MB


def test_freed_memory_is_used_again() -> None:
    arena = Arena()
    for _ in range(5):
        arena.release(arena.allocate(100_000))
    assert arena.resident == pytest.approx(100_000, abs=256)


def test_free_neighbours_are_joined() -> None:
    arena = Arena()
    pieces = [arena.allocate(MB // 4) for _ in range(4)]
    for index in (0, 2, 1, 3):
        arena.release(pieces[index])
    arena.allocate(MB)
    assert arena.resident == MB


def test_what_fits_nowhere_gets_a_region_of_its_own() -> None:
    """What was freed in a smaller one stays the process's: that is what growing costs."""
    arena = Arena()
    for size in (1, 2, 4, 8):
        arena.release(arena.allocate(size * MB))
    assert arena.resident == 15 * MB


def test_the_smallest_chunk_that_does_is_taken() -> None:
    arena = Arena()
    large, small = arena.allocate(8 * MB), arena.allocate(3 * MB)
    arena.release(large)
    arena.release(small)
    arena.allocate(8 * MB)
    again = arena.allocate(3 * MB)
    assert (again.region, again.offset) == (small.region, small.offset)
    assert arena.resident == 11 * MB
