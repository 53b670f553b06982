"""A build in a process of its own: TensorRT, or the system, may end that one, and no other.

Both ends of it. The child reads a job from stdin, a line of JSON, and ends when stdin does. It
writes messages to stdout, a line of JSON each; after the last one follows the engine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from ....errors import BundleError, MutoscopeError, UserError
from ...manifest import GraphSpec
from ...spec import EngineSpec
from ...store import Built, EngineStore
from .build import Report, build, out_of_memory

log = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0]
PROGRAM = f"""
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from {__name__} import main
main()
"""
STDIN, STDOUT, STDERR = 0, 1, 2
ENDED_FIRST = Path("/proc/self/oom_score_adj"), "1000"
"""Linux: where memory runs out the build ends, not what waits for it (proc(5))."""
MOST_SAID = 300
"""Characters of what a process said as it ended."""

ERRORS = {kind.__name__: kind for kind in (BundleError, UserError, MutoscopeError)}


class DeadError(Exception):
    """The child ended and told nothing; says how it ended, and its last words."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `build`."""

    spec: EngineSpec
    graph: GraphSpec
    path: str
    threads: int | None
    store: str


class Progress(msgspec.Struct, frozen=True, tag=True):
    """The arguments of a `Report`."""

    phase: str
    done: int
    steps: int


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A line of log."""

    logger: str
    level: int
    message: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The build's error: one of `ERRORS`, or a traceback."""

    kind: str
    message: str

    def error(self) -> Exception:
        """What to raise."""
        return ERRORS.get(self.kind, RuntimeError)(self.message)


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the build gives, but for the engine; of that the bytes that follow."""

    size: int
    listing: str
    layers: dict[str, int]
    weights_mb: float
    activations_mb: float
    peak_memory_mb: float


Message = Progress | Logged | Failed | Done


def build_apart(
    spec: EngineSpec,
    graph: GraphSpec,
    path: Path,
    threads: int | None,
    report: Report,
    store: EngineStore,
) -> Built:
    """As `build`, which happens in a new process. Whatever ends the wait ends that too.

    Raises:
        DeadError: the process ended before the build did.
        MutoscopeError: as `build` says.
    """
    job = Job(spec=spec, graph=graph, path=str(path), threads=threads, store=str(store.folder))
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps([str(p) for p in sys.path])]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it is dead: there are no messages then
                child.stdin.write(msgspec.json.encode(job) + b"\n")
                child.stdin.flush()
            built = _follow(child.stdout, report)
            if built is None:
                raise DeadError(_told(child.wait(), _lines(said)))
        finally:
            child.kill()
        for line in _lines(said):
            log.warning("%s", line)
    return built


def _follow(messages: IO[bytes], report: Report) -> Built | None:
    """Pass on what the child tells, until it has built the engine; `None` where it ends before."""
    for line in messages:
        if not line.endswith(b"\n"):
            return None
        message = msgspec.json.decode(line, type=Message)
        if isinstance(message, Progress):
            report(message.phase, message.done, message.steps)
        elif isinstance(message, Logged):
            logging.getLogger(message.logger).log(message.level, "%s", message.message)
        elif isinstance(message, Failed):
            raise message.error()
        else:
            facts = msgspec.structs.asdict(message)
            size = facts.pop("size")
            plan = messages.read(size)
            return Built(plan=plan, **facts) if len(plan) == size else None
    return None


def _told(code: int, lines: list[str]) -> str:
    """How a process ended."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended by {how}" + (f" ({lines[-1][:MOST_SAID]})" if lines else "")


def _lines(said: IO[bytes]) -> list[str]:
    """What the child wrote to stderr."""
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


class Channel(logging.Handler):
    """The child's end: sends messages, lines of log among them."""

    def __init__(self) -> None:
        """Take stdout; what native code prints there goes to stderr from now on."""
        super().__init__()
        self._stream, self._one = os.fdopen(os.dup(STDOUT), "wb"), threading.Lock()
        os.dup2(STDERR, STDOUT)

    def send(self, message: Message, data: bytes | memoryview = b"") -> None:
        """Send one whole message, and what follows it."""
        with self._one:
            self._stream.write(msgspec.json.encode(message) + b"\n")
            self._stream.write(data)
            self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of log."""
        self.send(Logged(record.name, record.levelno, record.getMessage()))


def main() -> None:
    """What the child does: one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to its parent too, which ends it
    place, score = ENDED_FIRST
    with contextlib.suppress(OSError):
        place.write_text(score)
    channel = Channel()
    logging.getLogger(PACKAGE).addHandler(channel)
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        built = _built(job, channel)
    except Exception as error:
        channel.send(_failed(error, job.spec))
        return
    message = Done(
        size=len(built.plan),
        listing=built.listing,
        layers=built.layers,
        weights_mb=built.weights_mb,
        activations_mb=built.activations_mb,
        peak_memory_mb=built.peak_memory_mb,
    )
    channel.send(message, built.plan)


def _built(job: Job, channel: Channel) -> Built:
    def report(phase: str, done: int, steps: int) -> None:
        channel.send(Progress(phase, done, steps))

    store = EngineStore(Path(job.store))
    return build(job.spec, job.graph, Path(job.path), job.threads, report, store)


def _failed(error: Exception, spec: EngineSpec) -> Failed:
    if isinstance(error, MemoryError):
        error = out_of_memory(spec, "MemoryError")
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in ERRORS), "")
    return Failed(kind, str(error) if kind else "".join(traceback.format_exception(error)))


def _end_with_parent() -> NoReturn:
    """Wait until nobody can write to stdin any more."""
    while os.read(STDIN, 1):
        pass
    os._exit(1)
