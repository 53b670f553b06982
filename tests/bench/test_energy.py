"""Counters of energy, as they stand in the file system and as NVIDIA's library gives them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mutoscope.bench.energy import find_meter
from mutoscope.bench.measure import Measurement, Repeat


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def zone(powercap: Path, folder: str, name: str, energy: object, most: int = 10_000_000) -> Path:
    found = powercap / folder
    found.mkdir()
    for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (found / file).write_text(f"{value}\n")
    return found


def test_packages_are_added_up(tmp_path: Path) -> None:
    one = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    other = zone(tmp_path, "intel-rapl:1", "package-1", 9_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:2", "psys", 1)
    zone(tmp_path, "dtpm", "dtpm", 1)
    meter = find_meter(tmp_path)
    assert str(meter) == "package-0 + package-1"
    before = meter.read()
    (one / "energy_uj").write_text("3500000")
    (other / "energy_uj").write_text("500000")  # begun again at 10 J
    assert meter.since(before) == pytest.approx(2.5 + 1.5)


@pytest.mark.parametrize("energy", ["", "many", None], ids=["empty", "words", "unreadable"])
def test_what_cannot_be_read_is_not_available(tmp_path: Path, energy: str | None) -> None:
    found = zone(tmp_path, "intel-rapl:0", "package-0", energy)
    if energy is None:
        (found / "energy_uj").unlink()
    meter = find_meter(tmp_path)
    assert str(meter) == "not available"
    assert meter.since(meter.read()) is None


def test_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([5000, 6000, 7500])  # mJ; the first is a look whether it counts
    nvml: Any = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(used),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = find_meter(tmp_path)
    assert str(meter) == "gpu-0"
    assert meter.since(meter.read()) == pytest.approx(1.5)


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("Driver Not Loaded")

    nvml = SimpleNamespace(NVMLError=RuntimeError, nvmlInit=fail)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert str(find_meter(tmp_path)) == "not available"


def test_a_repetition_takes_its_share(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj"

    def work() -> None:
        file.write_text(str(int(file.read_text()) + 1_500_000))

    measured = Repeat(warmup=1, repetitions=4, meter=find_meter(tmp_path))("clip", "all", work)
    assert measured.joules == pytest.approx(1.5)


def test_times_that_are_told_have_no_energy(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    measured = Repeat(meter=find_meter(tmp_path)).given("step", "one", lambda: 1.0)
    assert measured == Measurement("step", (1.0,) * 5, "one")
    assert measured.joules is None
