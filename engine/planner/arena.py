"""How much memory ONNX Runtime's arena takes from the system for what is held in it.

It grows by regions of doubling size, gives the smallest free chunk that does, joins free ones that
lie side by side, and gives nothing back. Source: ONNX Runtime, `core/framework/bfc_arena.cc`, with
default settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ALIGNMENT = 256
FIRST_REGION = 1 << 20
MAX_SLACK = 128 << 20
"""Bytes; a chunk that leaves less than this, and less than is asked for, is not split."""


@dataclass
class _Region:
    """Memory in one piece: its chunks in order, and how far each page of it was ever used."""

    chunks: list[Chunk]
    used: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Chunk:
    """A piece of a region, in bytes."""

    region: int
    offset: int
    length: int
    free: bool = True


class Arena:
    """One session's arena, empty."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []
        self._next_region = FIRST_REGION

    def allocate(self, size: float) -> Chunk:
        """A chunk for some bytes."""
        wanted = max(-(-int(size) // ALIGNMENT), 1) * ALIGNMENT
        fitting = (
            chunk
            for region in self._regions
            for chunk in region.chunks
            if chunk.free and chunk.length >= wanted
        )
        chunk = min(fitting, key=lambda chunk: chunk.length, default=None) or self._grow(wanted)
        if chunk.length >= 2 * wanted or chunk.length - wanted >= MAX_SLACK:
            self._split(chunk, wanted)
        chunk.free = False
        self._regions[chunk.region].used.append((chunk.offset, chunk.offset + wanted))
        return chunk

    def release(self, chunk: Chunk) -> None:
        """Give a chunk back to the arena."""
        chunks = self._regions[chunk.region].chunks
        chunk.free = True
        index = chunks.index(chunk)
        for left in (index, index - 1):
            if 0 <= left < len(chunks) - 1 and chunks[left].free and chunks[left + 1].free:
                chunks[left].length += chunks.pop(left + 1).length

    @property
    def resident(self) -> int:
        """Bytes that were in use at some time: what the system counts as the process's."""
        return sum(_covered(region.used) for region in self._regions)

    def _grow(self, wanted: int) -> Chunk:
        length = self._next_region
        while length < wanted:
            length *= 2
        self._next_region = length * (1 if length > self._next_region else 2)
        chunk = Chunk(len(self._regions), 0, length)
        self._regions.append(_Region([chunk]))
        return chunk

    def _split(self, chunk: Chunk, length: int) -> None:
        rest = Chunk(chunk.region, chunk.offset + length, chunk.length - length)
        chunk.length = length
        chunks = self._regions[chunk.region].chunks
        chunks.insert(chunks.index(chunk) + 1, rest)


def _covered(spans: list[tuple[int, int]]) -> int:
    """The length that some spans cover together."""
    covered = end = 0
    for start, stop in sorted(spans):
        covered += max(0, stop - max(start, end))
        end = max(end, stop)
    return covered
