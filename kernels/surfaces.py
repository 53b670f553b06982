"""Arrays for a library that registers memory: made once, and taken again when it has let go."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from .device import DeviceArray, Stream


@dataclass(frozen=True, eq=False)
class _Loan:
    """What everything that reads or writes a surface refers to."""

    surface: DeviceArray


class Surfaces:
    """As many arrays outside of the pool as are in use at once.

    Registering memory takes a video encoder longer than encoding a frame, and it cannot register
    the pool's (nvEncRegisterResource fails on what cuMemAllocAsync gave). They have to outlive what
    they are registered with.

    Attributes:
        stream: that writes to them.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._loans: list[tuple[DeviceArray, weakref.ref[_Loan]]] = []

    def take(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        """One that nobody uses, or a new one. It is in use while anything refers to its memory."""
        wanted = tuple(shape), dtype
        for index, (surface, loan) in enumerate(self._loans):
            if loan() is None and (surface.shape, surface.dtype) == wanted:
                del self._loans[index]
                return self._lend(surface)
        return self._lend(self.stream.allocate(*wanted))

    def _lend(self, surface: DeviceArray) -> DeviceArray:
        loan = _Loan(surface)
        self._loans.append((surface, weakref.ref(loan)))
        return surface.kept_by(loan)
