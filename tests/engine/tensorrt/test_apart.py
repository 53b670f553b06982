"""Builds in processes of their own, on a package that ends its process, or waits."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, open_graph
from mutoscope.engine.backends.tensorrt import engines
from mutoscope.engine.backends.tensorrt.apart import DeadError, build_apart
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import EngineStore
from mutoscope.errors import MutoscopeError

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PACKAGE = """
import ctypes, enum, logging, os, pathlib, signal, sys, time
__version__ = "1.7"
ComputeCapability = enum.IntEnum("ComputeCapability", {{"SM86": 1, "SM89": 2}})
class ILogger:
    ERROR, INTERNAL_ERROR, INFO = range(3)
def Builder(logger):
    {body}
"""
WAITS = "pathlib.Path({started!r}).write_text(str(os.getpid())); time.sleep(60)"
TERMINATED = b"terminate called after throwing an instance of 'std::bad_alloc'\n"
Package = Callable[[str], Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Write the package that a new process will import, whose builder does what is said."""

    def package(body: str) -> Path:
        folder = tmp_path / "packages"
        folder.mkdir(exist_ok=True)
        (folder / "tensorrt_rtx.py").write_text(PACKAGE.format(body=body))
        return folder

    monkeypatch.syspath_prepend(package("pass"))
    return package


@pytest.fixture
def build(recorder: Any, package: Package) -> Callable[[], None]:
    """Build an engine of the embedded bundle."""
    bundle = Bundle.open(EMBEDDED)
    spec = describe(TENSORRT_RTX, bundle, "denoiser", [LatentSize(2, 4, 4)], ["sm_89"])
    return lambda: build_engine(EngineStore(), bundle, spec, None, lambda *_: None) and None


def files(folder: Path) -> list[str]:
    """What a build left, but for locks, which stay."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in found if path.parts[0] != ".locks"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        ("ctypes.string_at(0)", "ended by SIGSEGV"),
        (
            f"os.write(2, {TERMINATED!r}); os.abort()",
            f"ended by SIGABRT ({TERMINATED.decode().strip()})",
        ),
        ("os._exit(3)", "ended by exit code 3"),
    ],
)
def test_an_end_is_one_line_and_leaves_nothing(
    build: Callable[[], None], package: Package, body: str, told: str
) -> None:
    package(body)
    with pytest.raises(MutoscopeError) as caught:
        build()
    line = rf"denoiser: its build was {re.escape(told)}; it takes roughly \d+ MB of memory, "
    line += r"\d+ MB can be had: where that is why, build on a larger machine"
    assert re.fullmatch(line, str(caught.value))
    assert files(EngineStore().folder) == []


def test_a_process_that_ends_before_it_has_its_job(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is more than a pipe holds."""
    bundle = Bundle.open(EMBEDDED)
    spec = describe(TENSORRT_RTX, bundle, "denoiser", [LatentSize(2, 4, 4)], ["sm_89"])
    graph = msgspec.structs.replace(bundle.graph("denoiser"), data=("x" * 60,) * 5000)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(DeadError, match="^ended by exit code 1$"):
        build_apart(spec, graph, Path("graph"), None, lambda *_: None, EngineStore())


def test_memory_that_is_not_known_is_not_told(
    build: Callable[[], None], package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("os._exit(3)")
    monkeypatch.setattr(engines, "free_memory", lambda: None)
    with pytest.raises(MutoscopeError, match="its build was ended by exit code 3$"):
        build()


def test_python_s_own_lack_of_memory(build: Callable[[], None], package: Package) -> None:
    package("raise MemoryError")
    with pytest.raises(MutoscopeError, match="^denoiser: out of memory: .* larger one .MemoryErr"):
        build()


def test_a_mistake_of_ours_comes_with_its_traceback(
    build: Callable[[], None], package: Package
) -> None:
    package("raise ValueError('unforeseen')")
    with pytest.raises(RuntimeError, match=r"(?s)^Traceback.*, in build\n.*ValueError: unforeseen"):
        build()


def test_log_is_passed_on_and_what_is_printed_is_no_message(
    build: Callable[[], None], package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    package(
        "os.write(1, b'{}\\n'); logging.getLogger('mutoscope.engine').info('%s anew', 'timed');"
        "raise MemoryError"
    )
    with caplog.at_level("INFO", "mutoscope"), pytest.raises(MutoscopeError, match="out of mem"):
        build()
    assert caplog.record_tuples == [("mutoscope.engine", 20, "timed anew")]


def test_a_session_tells_it_too(
    recorder: Any, one_graph: Callable[..., Bundle], package: Package
) -> None:
    package("os.kill(os.getpid(), signal.SIGKILL)")
    feeds = {"x": np.zeros((1, 4, 2, 4, 4), np.float32)}
    with (
        open_graph(one_graph(), "denoiser", backend="tensorrt-rtx") as session,
        pytest.raises(MutoscopeError, match="^denoiser: its build was ended by SIGKILL$"),
    ):
        session.run(feeds)


@pytest.fixture
def waiting(package: Package, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command line with a build that takes a minute, and the process of that build."""
    started = tmp_path / "started"
    packages = package(WAITS.format(started=str(started)))
    command = [sys.executable, "-P", "-m", "mutoscope", "build", str(EMBEDDED), "--arch", "sm_89"]
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stderr=pipe, text=True, env=environment) as process:
        while not (started.exists() and started.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        yield process, int(started.read_text())
        process.kill()


def ends(pid: int) -> bool:
    """Whether a process is gone within seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # nobody has asked for its exit code yet
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_build_too(
    waiting: tuple[subprocess.Popen[str], int], kind: signal.Signals
) -> None:
    process, child = waiting
    process.send_signal(kind)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "mutoscope: error: interrupted; nothing half-written is left\n"
    assert ends(child)
    assert files(EngineStore().folder) == []


def test_who_kills_the_command_ends_the_build(
    waiting: tuple[subprocess.Popen[str], int],
) -> None:
    process, child = waiting
    process.kill()
    process.wait()
    assert ends(child)
    assert files(EngineStore().folder) == []


def test_ctrl_c_in_a_terminal_is_the_parent_s_to_hear(
    waiting: tuple[subprocess.Popen[str], int],
) -> None:
    """The child gets it as well."""
    process, child = waiting
    os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    assert Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"
