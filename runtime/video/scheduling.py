"""Threads that an encoder makes real-time ones, made ordinary again.

SVT-AV1 (4.1.0) gives all its threads, and the one that opens it, the highest real-time priority
where it may, as root may in a container. Whatever else wants their processor waits then, and what
the caller starts later inherits it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

THREADS = Path("/proc/self/task")
"""Linux's list of this process's threads."""

Schedule = tuple[int, int]
"""A policy of sched(7), and its priority."""


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """Threads that there are keep their scheduling, and new ones get the caller's."""
    before = _schedules()
    try:
        yield
    finally:
        own = before.get(threading.get_native_id())
        for thread, schedule in _schedules().items():
            wanted = before.get(thread, own)
            if wanted is not None and schedule != wanted:
                with suppress(OSError):  # it has ended, or the system does not let us
                    os.sched_setscheduler(thread, wanted[0], os.sched_param(wanted[1]))


def _schedules() -> dict[int, Schedule]:
    """Of every thread, by its number; of none where there is no such list."""
    found = {}
    with suppress(FileNotFoundError):
        for thread in (int(path.name) for path in THREADS.iterdir()):
            with suppress(ProcessLookupError):
                priority = os.sched_getparam(thread).sched_priority
                found[thread] = os.sched_getscheduler(thread), priority
    return found
