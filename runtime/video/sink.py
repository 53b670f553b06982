"""What turns frames into the bytes of one kind of file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


class Sink(Protocol):
    """Takes frames, writes a file or a folder. Errors are the system's and FFmpeg's own."""

    def write(self, frame: Any) -> None:
        """Take the next frame: uint8 (height, width, 3), RGB; a video's may be other pictures."""

    def finish(self) -> Iterator[None]:
        """Write all that is left, in steps between which the caller may stop; then close."""

    def abandon(self) -> None:
        """Let go of everything; what has been written does not matter."""
