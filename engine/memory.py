"""How much memory this process has held, the machine has and can give, and giving some back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path

PROCESS = Path("/proc/self")
MACHINE = Path("/proc/meminfo")
RESET_PEAK = "5"


def peak_memory_mb() -> float:
    """The most resident memory this process has held, in MB (2^20 bytes).

    Linux says so in /proc; `getrusage` there starts from what the parent process held.
    """
    try:
        lines = (PROCESS / "status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_memory() -> int | None:
    """Bytes that a new process can have; `None` where nothing says so.

    That is what is free in the machine (Linux says), and no more than limits of a process allow
    (`ulimit -d`, `ulimit -v`).
    """
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS))
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    with contextlib.suppress(OSError, StopIteration):
        lines = MACHINE.read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        known.append(1024 * int(free.split()[1]))
    return min(known, default=None)


def machine_memory() -> int:
    """Bytes that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reset_peak_memory() -> None:
    """Count the peak from what is held now, where the system can (Linux: proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)


def return_free_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc: malloc_trim(3)).

    What is freed in pieces of up to 32 MB stays the process's otherwise, once one as large was.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
