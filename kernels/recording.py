"""Work on a stream that is recorded once and launched as a whole from then on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..errors import MutoscopeError
from .device import DeviceArray, Stream

Made = TypeVar("Made", bound=DeviceArray)
Graph = TypeVar("Graph")


class Rehearsal(Generic[Made]):
    """What a stream allocates: new arrays, but for work that is recorded those of its first run.

    Nothing can be allocated in a stream that is being recorded, and what is recorded has addresses
    in it; so these arrays live as long as the graph.
    """

    def __init__(self) -> None:
        self._arrays: list[Made] | None = None
        self._again: Iterator[Made] | None = None

    def array(self, shape: tuple[int, ...], dtype: str, make: Callable[[], Made]) -> Made:
        """A new array, or one of the first run.

        Raises:
            MutoscopeError: the work does not do the same twice.
        """
        if self._again is None:
            made = make()
            if self._arrays is not None:
                self._arrays.append(made)
            return made
        array = next(self._again, None)
        if array is None or (array.shape, array.dtype) != (shape, dtype):
            raise MutoscopeError("work that is recorded allocates the same arrays each time")
        return array

    def perform(
        self, work: Callable[[], None], record: Callable[[Callable[[], None]], Graph]
    ) -> tuple[Graph, Sequence[Made]]:
        """Run work, then record it: what `record` gives, and the arrays whose addresses are in it.

        What is freed while it is recorded would be freed at every launch, so Python collects no
        garbage then.
        """
        arrays: list[Made] = []
        self._arrays = arrays
        collecting = gc.isenabled()
        try:
            work()
            self._again = iter(arrays)
            gc.disable()
            return record(work), arrays
        finally:
            self._arrays = self._again = None
            if collecting:
                gc.enable()


class Recording:
    """A function of arrays on a device, run once and recorded; further calls are one launch.

    It gives the same bits as the function, in new arrays.
    """

    def __init__(
        self,
        stream: Stream,
        function: Callable[..., Sequence[DeviceArray]],
        arrays: Sequence[DeviceArray],
    ) -> None:
        """Run and record.

        Args:
            stream: that the function works on, alone.
            function: puts the same work into the stream each time it is called with arrays of the
                same shapes, brings nothing from the host and waits for nothing.
            arrays: what it is called with.

        Raises:
            MutoscopeError: it cannot be recorded, or failed.
        """
        self._stream = stream
        self._inputs = tuple(map(self._copy, arrays))
        self._outputs: tuple[DeviceArray, ...] = ()

        def work() -> None:
            self._outputs = tuple(function(*self._inputs))

        self._graph = stream.capture(work)

    def __call__(self, arrays: Sequence[DeviceArray]) -> tuple[DeviceArray, ...]:
        """What the function gives for other arrays of the same shapes and types."""
        for array, place in zip(arrays, self._inputs, strict=True):
            self._stream.copy(array, place)
        self._graph.launch()
        return self.results()

    def results(self) -> tuple[DeviceArray, ...]:
        """What the last run gave; copies."""
        return tuple(map(self._copy, self._outputs))

    def _copy(self, array: DeviceArray) -> DeviceArray:
        copy = self._stream.empty(array.shape, array.dtype)
        self._stream.copy(array, copy)
        return copy
