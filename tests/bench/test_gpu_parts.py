"""The kernels' tests under compute-sanitizer: what is run, and what becomes of its findings."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutoscope.bench import gpu_parts
from mutoscope.bench.gpu_setting import Setting
from mutoscope.bench.suite import SkippedError, attempt

CLEAN = "echo '12 passed, 3 deselected in 1.2s'; echo '========= ERROR SUMMARY: 0 errors'"


@pytest.fixture(autouse=True)
def _a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "needs_device", lambda: None)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    path = folder / "compute-sanitizer"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{program}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize("tool", gpu_parts.TOOLS)
def test_the_kernels_tests_run_under_a_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    install(tmp_path, monkeypatch, CLEAN)
    told = gpu_parts.PARTS[f"sanitizer-{tool}"](Setting(tmp_path))
    assert told == {"told": "ERROR SUMMARY: 0 errors", "tests": "12 passed, 3 deselected in 1.2s"}
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(f"--tool {tool} --error-exitcode 86 ")
    assert "--gpu -k gpu" in asked
    for path in (gpu_parts.ROOT / "tests/kernels").glob("test_device_*.py"):
        assert f"tests/kernels/{path.name}" in asked


def test_what_it_finds_fails_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "echo '========= Invalid __global__ read of size 4'; exit 86")
    told = attempt(lambda: gpu_parts.sanitizer(Setting(tmp_path), tool="memcheck"))
    assert told["state"] == "failed"
    assert "Invalid __global__ read of size 4" in told["reason"]


def test_a_run_without_a_summary_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "echo '12 passed'")
    with pytest.raises(RuntimeError, match="compute-sanitizer gave no summary: 12 passed"):
        gpu_parts.sanitizer(Setting(tmp_path), tool="memcheck")


def test_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkippedError, match="compute-sanitizer is not on PATH; it comes with"):
        gpu_parts.sanitizer(Setting(tmp_path), tool="memcheck")
