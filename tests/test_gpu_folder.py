"""Tests that need a GPU, where nobody said that there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("gpu", r"\d+ skipped"),
        ("gpu/test_bandwidths.py::test_attention_is_near_the_statement", "1 skipped"),
    ],
)
def test_they_are_skipped_where_they_are_named(named: str, told: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    options += ["--import-mode=importlib", "-rs", str(TESTS / named)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options],
        cwd=TESTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(told + " in ", done.stdout.splitlines()[-1])
    assert "needs an NVIDIA GPU: pytest --gpu" in done.stdout
