"""Which machine a figure was measured on."""

from pathlib import Path

import pytest
from mutoscope.bench import machine

NVIDIA_SMI = """#!/bin/sh
echo "NVIDIA H200, 580.82.07, 143771 MiB, 700.00 W, 1980 MHz, 9.0"
"""


def test_a_gpu_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told = machine.describe()
    assert (told["gpu"], told["driver"]) == ("NVIDIA H200", "580.82.07")


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = machine.describe()
    assert not {"gpu", "driver"} & set(told)
    assert int(told["cores"]) >= 1
    assert told["commit"] == "none"  # there is no git either
