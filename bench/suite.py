"""Suites of measurements whose parts run in processes of their own: no failure hides another part.

What failed or was skipped stands in the results with its reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


class SkippedError(Exception):
    """A part that cannot run here, and why."""


def attempt(work: Callable[[], Figures]) -> Figures:
    """What the work found, its `state` "done"; else "skipped" or "failed", with the `reason`."""
    try:
        return {"state": "done", **work()}
    except SkippedError as reason:
        return {"state": "skipped", "reason": str(reason)}
    except ModuleNotFoundError as error:
        return {"state": "skipped", "reason": f"{error.name} is not installed"}
    except Exception as error:
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def apart(command: list[str], seconds: int, cache: Path) -> Figures:
    """A part's result, from a new process, whatever becomes of that process.

    Args:
        command: prints the result as JSON in the last line.
        seconds: after which it is ended.
        cache: the process's own `MUTOSCOPE_CACHE`.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                timeout=seconds,
                env={**os.environ, "MUTOSCOPE_CACHE": str(cache)},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"state": "failed", "reason": f"took longer than {seconds} s"}
        told.seek(0)
        errors = told.read()[-2000:]
    wall = round(time.monotonic() - began, 1)
    try:
        result: Figures = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"state": "failed", "reason": f"exit code {done.returncode}: {errors}"}
    return {**result, "wall_seconds": wall}


@contextmanager
def work_folder(kept: Path | None) -> Iterator[Path]:
    """The folder that is to be kept, made if need be; or one that goes at the end."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="suite.") as folder:
        yield Path(folder)


def summary(result: Figures) -> str:
    """A part's state, in one line."""
    return f"{result['state']} {result.get('reason', '')}".strip()
