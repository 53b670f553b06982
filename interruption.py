"""Ctrl-C and SIGTERM while the command line is still being imported: there is nothing to clear up.

Imports next to nothing, so that it is there first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

EXIT_CODE = 130
TOLD = "interrupted; nothing half-written is left"
STDERR = 2


def leave_when_interrupted() -> None:
    """End the process at either signal with one line, until other handlers are installed."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, _leave)


def _leave(signum: int, frame: FrameType | None) -> None:
    """Raise nothing: an extension module in the middle of its import makes an ImportError of it."""
    with contextlib.suppress(OSError):
        os.write(STDERR, f"mutoscope: error: {TOLD}\n".encode())
    os._exit(EXIT_CODE)
