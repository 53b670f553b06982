"""Energy that processors and GPUs have used, as Linux and NVIDIA's driver count it.

The counters are the whole machine's: an idle core and another program's work are in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import MissingExtraError
from ..kernels.native import import_cuda

POWERCAP = Path("/sys/class/powercap")
"""Linux's power capping: a folder a zone, `intel-rapl:0` for the first package, AMD's too."""
NOT_AVAILABLE = "not available"
LEAST_SECONDS = 1.0
"""Of work whose energy is counted: a GPU's counter moves some ten times a second."""


class Counter(Protocol):
    """Something that counts energy upwards."""

    name: str

    def joules(self) -> float:
        """What has been counted since some time in the past."""

    def since(self, before: float) -> float:
        """What has been used since `joules()` said `before`."""


class Package:
    """A processor package's RAPL counter, which begins again at its range's end."""

    def __init__(self, zone: Path) -> None:
        """Look at a zone.

        Raises:
            OSError: it cannot be read; since Linux 5.10 only root may.
            ValueError: it holds something else.
        """
        self.name = (zone / "name").read_text().strip()
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text()) / 1e6
        self.joules()

    def joules(self) -> float:
        """The counter."""
        return int(self._file.read_text()) / 1e6

    def since(self, before: float) -> float:
        """Right if the counter has begun again at most once, which takes a minute at 1 kW."""
        return (self.joules() - before) % self._range


class Gpu:
    """An NVIDIA GPU's counter, of Volta and newer."""

    def __init__(self, nvml: Any, index: int) -> None:
        """Look at a GPU.

        Raises:
            nvml.NvmlError: it does not count.
        """
        self.name = f"gpu-{index}"
        self._nvml = nvml
        self._handle = nvml.device_get_handle_by_index_v2(index)
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.device_get_total_energy_consumption(self._handle)) / 1e3

    def since(self, before: float) -> float:
        """The difference."""
        return self.joules() - before


class Meter:
    """All counters together."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters

    def __str__(self) -> str:
        return " + ".join(counter.name for counter in self._counters) or NOT_AVAILABLE

    def read(self) -> list[float]:
        """What `since` wants."""
        return [counter.joules() for counter in self._counters]

    def since(self, before: list[float]) -> float | None:
        """Joules used since a reading; `None` where nothing counts."""
        if not self._counters:
            return None
        return sum(c.since(b) for c, b in zip(self._counters, before, strict=True))


def find_meter(powercap: Path = POWERCAP) -> Meter:
    """Every counter that can be read here."""
    return Meter([*_packages(powercap), *_gpus()])


def joules_a_run(run: Callable[[], object], meter: Meter | None = None) -> float | str:
    """What the whole machine uses for one run, of as many as take a second; or that nothing counts.

    Args:
        run: ends when its work is done, a device's too.
        meter: by default every counter that there is.
    """
    meter = meter or find_meter()
    before, began, runs = meter.read(), time.perf_counter(), 0
    while before and time.perf_counter() - began < LEAST_SECONDS:
        run()
        runs += 1
    used = meter.since(before)
    return NOT_AVAILABLE if used is None else round(used / runs, 4)


def _packages(powercap: Path) -> list[Counter]:
    found: list[Counter] = []
    for zone in sorted(powercap.glob("intel-rapl:[0-9]*")):
        if ":" in zone.name.removeprefix("intel-rapl:"):
            continue  # a part of a package
        try:
            package = Package(zone)
        except (OSError, ValueError):
            continue
        if package.name.startswith("package"):  # "psys" is a sum that the packages are in
            found.append(package)
    return found


def _gpus() -> list[Counter]:
    """Those that NVML names; none without cuda-bindings or a driver."""
    try:
        nvml = import_cuda("bindings.nvml")
    except MissingExtraError:
        return []
    try:
        nvml.init_v2()
        return [Gpu(nvml, index) for index in range(nvml.device_get_count_v2())]
    except (nvml.NvmlError, RuntimeError):  # the latter where there is no driver's library
        return []
