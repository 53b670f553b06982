"""Ctrl-C at any moment, and a full disk: the program ends at once and leaves nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.quiet]
PROMPT = "a red circle moves up"
Start = Callable[..., "subprocess.Popen[str]"]
SLOW = ["--size", "256x256", "--frames", 81, "--steps", 200, "--threads", 1]
"""One core is left to who measures: with both taken the test itself has waited minutes for its turn
(docs/lab.md)."""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.6, 1.2, 2.0, 3.5])
def test_interrupted_while_running(
    start: Start, folder: Path, kind: signal.Signals, delay: float
) -> None:
    """From the imports into the denoising loop, whose single steps take seconds here."""
    process = start("generate", PROMPT, *SLOW)
    time.sleep(delay)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(kind)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 1
    assert process.returncode == 130
    assert errors == "mutoscope: error: interrupted; nothing half-written is left\n"
    assert list(folder.iterdir()) == []


def test_interrupted_while_decoding(start: Start, folder: Path) -> None:
    process = start("generate", PROMPT, "--size", "192x192", "--frames", 161, "--steps", 1,
                    "--guidance", 1, "--threads", 1)  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(folder.iterdir()), "the half-written file appears beside its name"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert time.monotonic() - began < 1
    assert process.returncode == 130
    assert list(folder.iterdir()) == []


STARTING = """
import builtins, runpy, signal, sys
plain = builtins.__import__
def load(name, *rest, **named):
    if name == "click":
        signal.raise_signal(int(sys.argv[1]))
    return plain(name, *rest, **named)
builtins.__import__ = load
runpy.run_module("mutoscope", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_the_command_line_is_imported(
    folder: Path, kind: signal.Signals
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", STARTING, str(int(kind))],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == "mutoscope: error: interrupted; nothing half-written is left\n"
    assert done.returncode == 130


SWALLOWED = """
import click, signal, sys, time, types
class Careless:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)
@click.command()
def command():
    Careless()
    time.sleep(20)
sys.modules["mutoscope.cli.generate"] = types.SimpleNamespace(command=command)
from mutoscope.cli import main
main(["generate"])
"""


def test_interrupted_inside_a_finalizer(folder: Path) -> None:
    """Python swallows an exception there; the program still ends."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", SWALLOWED], cwd=folder, capture_output=True, text=True
    )
    assert time.monotonic() - began < 5
    assert done.returncode == 130
    assert done.stderr == "mutoscope: error: interrupted; nothing half-written is left\n"


IMPORTING = """
import builtins
from mutoscope.cli import Interruption, main
plain = builtins.__import__
def load(name, *rest, **named):
    if name != "onnxruntime":
        return plain(name, *rest, **named)
    try:
        raise Interruption
    except Interruption as cause:
        raise ImportError("initialization failed") from cause
builtins.__import__ = load
main(["generate", "a red circle", "--steps", "1"])
"""


def test_interrupted_while_an_extension_module_is_imported(folder: Path) -> None:
    """Its initialisation makes an ImportError of any exception; the package is not missing."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTING], cwd=folder, capture_output=True, text=True
    )
    assert done.stderr == "mutoscope: error: interrupted; nothing half-written is left\n"
    assert done.returncode == 130
    assert list(folder.iterdir()) == []


def test_disk_full(folder: Path) -> None:
    """A limit on file size makes writing fail as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mutoscope", "generate", PROMPT, "--steps", "1"],
        cwd=folder, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
        env={**os.environ, "MUTOSCOPE_CACHE": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("mutoscope: error: ")
    assert [p.name for p in folder.iterdir()] == ["cache"]
