"""What is printed and cannot be: nobody reads it, or the disk is full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mutoscope
import pytest

pytestmark = pytest.mark.e2e
EMBEDDED = str(Path(mutoscope.__file__).parent / "models" / "mini-wan")
COMMANDS = pytest.mark.parametrize("arguments", [["inspect", EMBEDDED], ["--help"]])


@pytest.fixture
def unread() -> Iterator[int]:
    """The end of a pipe whose reader has left, as of `| head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture(autouse=True, params=["", "1"], ids=["buffered", "unbuffered"])
def _buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


def run(arguments: list[str], stdout: int | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "mutoscope", *arguments]
    if stdout is None:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@COMMANDS
def test_nobody_reads(unread: int, arguments: list[str]) -> None:
    """As a process that SIGPIPE ends: silent, and 128 + 13 to a shell."""
    done = run(arguments, unread)
    assert (done.returncode, done.stderr) == (141, "")


@COMMANDS
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_disk_full(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(arguments, full.fileno())
    assert done.stderr == (
        "mutoscope: error: cannot write: No space left on device; "
        "free some space or write elsewhere\n"
    )
    assert done.returncode == 2


def test_no_stdout() -> None:
    done = run(["inspect", EMBEDDED], None)
    assert (done.returncode, done.stderr) == (0, "")
