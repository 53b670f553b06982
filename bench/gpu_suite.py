"""The GPU path of this machine, part by part, each in a process of its own.

    python -m mutoscope.bench.gpu_suite --out results

Results are written after every part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ..engine.folders import write_whole
from ..errors import unknown
from .gpu_parts import PARTS, SECONDS, seconds_for
from .gpu_report import as_markdown
from .gpu_setting import Setting
from .gpu_shares import with_shares
from .gpu_targets import with_targets
from .suite import Figures, apart, attempt, summary, work_folder

RESULTS, TABLES = "gpu-suite.json", "gpu-suite.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="By commas.")
@click.option(
    "--seconds",
    type=int,
    show_default=f"{SECONDS}; more for what exports or builds Wan's models",
    help="Allowed to each part.",
)
@click.option("--small", is_flag=True, help="Tiny sizes, on the CPU too: tries the suite itself.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep bundles and engines there; by default they go at the end.",
)
@click.option("--one", hidden=True, help="Run one part here and print its result.")
def main(
    *, out: Path, parts: str, seconds: int | None, small: bool, work: Path | None, one: str | None
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
    results: Figures = {"small": small}
    with work_folder(work) as folder:
        for name in names:
            allowed = seconds_for(name) if seconds is None else seconds
            results[name] = _apart(name, Setting(folder, small), allowed)
            click.echo(f"{name}: {summary(results[name])}", err=True)
            told = with_targets(with_shares(results))
            write_whole(out / RESULTS, f"{json.dumps(told, indent=1)}\n".encode())
            write_whole(out / TABLES, as_markdown(told).encode())
    click.echo(out / RESULTS)


def _here(name: str, setting: Setting) -> Figures:
    return attempt(lambda: PARTS[name](setting))


def _apart(name: str, setting: Setting, seconds: int) -> Figures:
    command = [sys.executable, "-P", "-m", __spec__.name, "--one", name]
    command += ["--work", str(setting.work)]
    if setting.small:
        command.append("--small")
    return apart(command, seconds, setting.work / "cache")


if __name__ == "__main__":
    main()
