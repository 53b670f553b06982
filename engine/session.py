"""What a backend gives: an opened engine that runs on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .bundle import TensorSpec


class Buffer(Protocol):
    """A tensor that a backend owns, on the host or on a device; another run takes it without a copy.

    `numpy.asarray(buffer)` brings it to the host.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, as NumPy names it."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]: ...


Tensor = NDArray[Any] | Buffer


class Session(Protocol):
    """One graph of a bundle, opened by a backend and ready to run. Close it, or use it in a `with`."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What `run` wants: names, dtypes and shapes with named axes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What `run` gives."""

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once. Feeds and results go by name; results stay where the backend computed them.

        Raises:
            MutoscopeError: an input is missing, unknown, or has the wrong dtype or shape.
        """

    def close(self) -> None:
        """Give back the memory. A second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
