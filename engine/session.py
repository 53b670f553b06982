"""What a backend gives: an opened engine that runs on arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..closing import Closing
from ..errors import MutoscopeError
from ..kernels.device import DeviceArray, Stream
from .manifest import GraphSpec, TensorSpec

Tensor = NDArray[Any] | DeviceArray
"""An array of the host, or of a device: there, another run takes it uncopied."""


class Session(Closing):
    """One graph of a bundle, opened and ready to run. Close it, or use it in a `with`.

    Attributes:
        name: of the graph in its bundle.
        inputs: what `run` wants, by name.
        outputs: what `run` gives, by name.
        kernels: our own operators that compute in it, beside the backend's.
    """

    kernels: tuple[str, ...] = ()

    def __init__(self, name: str, graph: GraphSpec) -> None:
        self.name = name
        self.inputs = {spec.name: spec for spec in graph.inputs}
        self.outputs = {spec.name: spec for spec in graph.outputs}

    def run(
        self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Run once. Feeds and results go by name; results stay where the backend computed them.

        Args:
            feeds: what the graph wants.
            into: results of an earlier run that nobody reads any more: on a device, those of the
                same name and shape are written over instead of new ones made.

        Raises:
            MutoscopeError: an input is missing or unknown, has the wrong dtype or shape, or the
                engine failed.
        """
        check_feeds(self.name, self.inputs, feeds)
        return self._run_into(feeds, into) if into else self._run(feeds)

    @property
    def recordable(self) -> bool:
        """Whether runs like the last one can be recorded: `kernels.device.Stream.capture`."""
        return False

    @abstractmethod
    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def _run_into(
        self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """As `_run`, where results are lent by the engine or belong to the host."""
        return self._run(feeds)


def check_feeds(
    graph: str, inputs: Mapping[str, TensorSpec], feeds: Mapping[str, Tensor]
) -> dict[str, int]:
    """Compare feeds with what a graph wants; returns the lengths of the named axes.

    Raises:
        MutoscopeError: they differ; says where.
    """
    if feeds.keys() != inputs.keys():
        raise MutoscopeError(f"{graph} wants inputs {sorted(inputs)}, got {sorted(feeds)}")
    axes: dict[str, int] = {}
    for name, spec in inputs.items():
        tensor = feeds[name]
        fits = len(tensor.shape) == len(spec.shape) and all(
            _fits(axis, length, axes) for axis, length in zip(spec.shape, tensor.shape, strict=True)
        )
        if not fits or str(tensor.dtype) != spec.dtype:
            raise MutoscopeError(
                f"{graph}: input {name!r} wants {spec.dtype} {list(spec.shape)}, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    return axes


def on_stream(stream: Stream, tensor: Tensor) -> DeviceArray:
    """The tensor itself where it is on the device, else a copy."""
    return stream.upload(tensor) if isinstance(tensor, np.ndarray) else tensor


def room(
    stream: Stream, into: Mapping[str, Tensor], name: str, shape: Sequence[int], dtype: str
) -> DeviceArray:
    """The array that a result is written to: an earlier one if it fits, else a new one."""
    array = into.get(name)
    if array is None or isinstance(array, np.ndarray):
        return stream.empty(shape, dtype)
    fits = (array.shape, array.dtype) == (tuple(shape), dtype)
    return array if fits else stream.empty(shape, dtype)


def axis_length(axis: int | str, axes: Mapping[str, int]) -> int:
    """The length of an axis: fixed, named (`height`) or a multiple of a named one (`8*height`)."""
    if isinstance(axis, int):
        return axis
    factor, _, name = axis.rpartition("*")
    return int(factor or 1) * axes[name]


def _fits(axis: int | str, length: int, axes: dict[str, int]) -> bool:
    """Whether an axis has the right length; the first sight of a named one settles its length."""
    if isinstance(axis, str):
        factor, _, name = axis.rpartition("*")
        axes.setdefault(name, length // int(factor or 1))
    return length == axis_length(axis, axes)
