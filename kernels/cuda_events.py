"""Points in the work of a stream, and work that was recorded, on NVIDIA's cuda-core."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Self

from .cuda_array import CudaArray
from .native import native_errors


@dataclass(frozen=True)
class CudaEvent:
    """A point in a stream's work.

    Attributes:
        native: cuda-core's.
        waiter: the thread that waits for it, so that Ctrl-C is heard.
    """

    native: Any
    waiter: Executor

    def synchronize(self) -> None:
        """Wait until the work before it is done."""
        with native_errors("cuEventSynchronize"):
            self.waiter.submit(self.native.sync).result()

    def milliseconds_since(self, earlier: Self) -> float:
        """The time on the device between two events that have passed."""
        with native_errors("cuEventElapsedTime"):
            return float(self.native - earlier.native)


@dataclass(frozen=True)
class CudaGraph:
    """Work that was recorded once and is launched as a whole.

    Attributes:
        native: cuda-core's.
        stream: likewise, that it was recorded on.
        arrays: whose addresses are in it.
    """

    native: Any
    stream: Any
    arrays: Sequence[CudaArray]

    def launch(self) -> None:
        """Put it into the stream that it was recorded on."""
        with native_errors("cuGraphLaunch"):
            self.native.launch(self.stream)
