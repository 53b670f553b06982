"""The GPU path of this machine, part by part, each in a process of its own.

    python -m mutoscope.bench.gpu_suite --out results

One part's failure hides no other: what failed or was skipped stands in the results with its reason.
Results are written after every part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import unknown
from .gpu_parts import PARTS, Setting, SkippedError
from .gpu_report import as_markdown

PART_SECONDS = 300
RESULTS, TABLES = "gpu-suite.json", "gpu-suite.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="By commas.")
@click.option("--seconds", default=PART_SECONDS, show_default=True, help="Allowed to each part.")
@click.option("--small", is_flag=True, help="Tiny sizes, on the CPU too: tries the suite itself.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep bundles and engines there; by default they go at the end.",
)
@click.option("--one", hidden=True, help="Run one part here and print its result.")
def main(
    *, out: Path, parts: str, seconds: int, small: bool, work: Path | None, one: str | None
) -> None:
    """Measure the GPU path of this machine."""
    if one is not None:
        assert work is not None
        click.echo(json.dumps(_here(one, Setting(work, small))))
        return
    names = parts.split(",")
    for name in names:
        if name not in PARTS:
            raise click.BadParameter(unknown("part", name, PARTS))
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"small": small}
    with _work_folder(work) as folder:
        for name in names:
            results[name] = _apart(name, Setting(folder, small), seconds)
            click.echo(f"{name}: {_summary(results[name])}", err=True)
            _write(out / RESULTS, json.dumps(results, indent=1) + "\n")
            _write(out / TABLES, as_markdown(results))
    click.echo(out / RESULTS)


@contextmanager
def _work_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="gpu-suite.") as folder:
        yield Path(folder)


def _here(name: str, setting: Setting) -> dict[str, Any]:
    try:
        return {"state": "done", **PARTS[name](setting)}
    except SkippedError as reason:
        return {"state": "skipped", "reason": str(reason)}
    except ModuleNotFoundError as error:
        return {"state": "skipped", "reason": f"{error.name} is not installed"}
    except Exception as error:
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def _apart(name: str, setting: Setting, seconds: int) -> dict[str, Any]:
    """A part's result, from a new process, whatever becomes of that process."""
    command = [sys.executable, "-P", "-m", __spec__.name, "--one", name]
    command += ["--work", str(setting.work)]
    if setting.small:
        command.append("--small")
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                timeout=seconds,
                env={**os.environ, "MUTOSCOPE_CACHE": str(setting.work / "cache")},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"state": "failed", "reason": f"took longer than {seconds} s"}
        told.seek(0)
        errors = told.read()[-2000:]
    wall = round(time.monotonic() - began, 1)
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"state": "failed", "reason": f"exit code {done.returncode}: {errors}"}
    return {**result, "wall_seconds": wall}


def _summary(result: dict[str, Any]) -> str:
    return f"{result['state']} {result.get('reason', '')}".strip()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.partial")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    main()
