"""Which machine a figure was measured on, and with what."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from ..engine.memory import machine_memory
from ..runtime.record import versions
from .gpu_environment import card


def describe() -> dict[str, str]:
    """Processor, cores, memory, system, versions; GPU, driver and commit where there are any."""
    return {
        "cpu": _cpu_name(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{machine_memory() / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        **_gpu(),
        **versions(),
        "commit": _commit(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "unknown")


def _gpu() -> dict[str, str]:
    found = card()
    return {} if found is None else {"gpu": found["name"], "driver": found["driver_version"]}


def _commit() -> str:
    """The commit of the source tree, `+` where it was changed; `none` for an installed wheel."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip()
