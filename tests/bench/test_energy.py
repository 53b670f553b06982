"""Counters of energy, as they stand in the file system and as NVIDIA's library gives them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mutoscope.bench import energy
from mutoscope.bench.energy import find_meter, joules_a_run
from mutoscope.bench.measure import Measurement, Repeat

NVML = "cuda.bindings.nvml"


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NVML, None)


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
        NvmlError=KeyError,
        init_v2=lambda: None,
        device_get_count_v2=lambda: 1,
        device_get_handle_by_index_v2=lambda index: index,
        device_get_total_energy_consumption=lambda handle: next(used),
    )
    monkeypatch.setitem(sys.modules, NVML, nvml)
    meter = find_meter(tmp_path)
    assert str(meter) == "gpu-0"
    assert meter.since(meter.read()) == pytest.approx(1.5)


@pytest.mark.parametrize("error", [KeyError, RuntimeError], ids=["driver", "library"])
def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail() -> None:
        raise error("not found")

    monkeypatch.setitem(sys.modules, NVML, SimpleNamespace(NvmlError=KeyError, init_v2=fail))
    assert str(find_meter(tmp_path)) == "not available"


def test_joules_of_a_run_are_a_share_of_a_second_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj"
    clock = iter(range(100))  # a quarter of a second each time that it is asked
    monkeypatch.setattr(energy.time, "perf_counter", lambda: next(clock) / 4)
    runs: list[None] = []

    def work() -> None:
        runs.append(None)
        file.write_text(str(int(file.read_text()) + 1_500_000))

    assert joules_a_run(work, find_meter(tmp_path)) == pytest.approx(1.5)
    assert len(runs) == 3


def test_what_nothing_counts_is_not_run(tmp_path: Path) -> None:
    def work() -> None:
        raise AssertionError

    assert joules_a_run(work, find_meter(tmp_path)) == "not available"


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
