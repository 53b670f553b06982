"""Energy that processors and GPUs have used, as Linux and NVIDIA's driver count it.

The counters are the whole machine's: an idle core and another program's work are in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
"""Linux's power capping: a folder a zone, `intel-rapl:0` for the first package, AMD's too."""
NOT_AVAILABLE = "not available"


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
            nvml.NVMLError: it does not count.
        """
        self.name = f"gpu-{index}"
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3

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
    """Those that NVML names; none without its Python package or a driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [Gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
