"""Other engines beside ours, on the same weights, noise and request: one command, one table.

    python -m mutoscope.bench.peers --out results

Results are written after every part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ...engine.folders import write_whole
from ...engine.memory import peak_memory_mb
from ...errors import MissingExtraError, unknown
from ...runtime.arithmetic import HostArithmetic
from ..gpu_environment import installed
from ..machine import describe
from ..suite import Figures, apart, attempt, summary, work_folder
from .report import as_markdown

PART_SECONDS = 3600
RESULTS, TABLE = "peers.json", "peers.md"
CEILINGS = "ceilings"
"""Measured first, and once more at the end."""
PACKAGES = ("torch", "diffusers", "transformers", "openvino", "nncf")
SPARE = 2 << 30
"""Bytes that parts leave of the machine's memory, free or not: an engine that wants more fails."""
LATENT = 8
"""Pixels on a side that the VAE makes of one."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True)
@click.option("--parts", help="By commas; by default all.")
@click.option("--blocks", type=click.IntRange(1, 30), default=2, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--frame",
    type=click.IntRange(LATENT),
    nargs=2,
    default=(832, 480),
    show_default=True,
    metavar="WIDTH HEIGHT",
    help="Of the VAE's frames.",
)
@click.option("--compile/--no-compile", default=True, help="PyTorch's modules too; takes longest.")
@click.option("--seconds", default=PART_SECONDS, show_default=True, help="Allowed to each part.")
@click.option("--small", is_flag=True, help="Tiny sizes, nothing compiled: tries the suite itself.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep checkpoints and bundles there, and use those again; by default they go at the end.",
)
@click.option("--one", hidden=True, help="Run one part here and print its result.")
def main(
    *,
    out: Path,
    parts: str | None,
    seconds: int,
    work: Path | None,
    one: str | None,
    **options: Any,
) -> None:
    """Measure the peers beside us on this machine: time, and error against diffusers in fp32."""
    known = _parts()
    names = list(known) if parts is None else parts.split(",")
    for name in names:
        if name not in known:
            raise click.BadParameter(unknown("part", name, known))
    if any(side % LATENT for side in options["frame"]):
        raise click.BadParameter(f"width and height of --frame must be multiples of {LATENT}")
    if one is not None:
        assert work is not None
        click.echo(json.dumps(_here(one, work, options)))
        return
    out.mkdir(parents=True, exist_ok=True)
    results: Figures = {"machine": _machine(options)}
    with work_folder(work) as folder:
        for name in [*names, *([CEILINGS] if CEILINGS in names[:-1] else [])]:
            found = apart(_command(name, folder, options), seconds, folder / "cache")
            results[name] = _higher(results[name], found) if name in results else found
            click.echo(f"{name}: {summary(results[name])}", err=True)
            write_whole(out / RESULTS, f"{json.dumps(results, indent=1)}\n".encode())
            write_whole(out / TABLE, as_markdown(results).encode())
    _draw(results, out)
    click.echo(out / TABLE)


def _parts() -> Mapping[str, Any]:
    try:
        from .parts import PARTS
    except ModuleNotFoundError as error:
        raise click.ClickException(str(MissingExtraError(str(error.name), "bench"))) from None
    return PARTS


def _machine(options: dict[str, Any]) -> Figures:
    load = f"{os.getloadavg()[0]:.1f} before"
    return {**describe(), **installed(PACKAGES), "load": load, **options}


def _here(name: str, work: Path, options: dict[str, Any]) -> Figures:
    from .setting import Setting

    memory = HostArithmetic().memory
    allowed = max(memory // 2, memory - SPARE)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    result = attempt(lambda: _parts()[name](Setting(work, **options)))
    return {**result, "peak_memory_gb": round(peak_memory_mb() / 1024, 1)}


def _command(name: str, work: Path, options: dict[str, Any]) -> list[str]:
    command = [sys.executable, "-P", "-m", __package__, "--one", name, "--work", str(work)]
    command += ["--blocks", str(options["blocks"]), "--repetitions", str(options["repetitions"])]
    command += ["--frame", *map(str, options["frame"])]
    command += ["--compile" if options["compile"] else "--no-compile"]
    return [*command, "--small"] if options["small"] else command


def _higher(one: Figures, other: Figures) -> Figures:
    """Of two measurements of the ceilings, in the first and the last minute, what each reached.

    A machine that others use has slow minutes.
    """
    if one["state"] != "done" or other["state"] != "done":
        return one if one["state"] == "done" else other
    return {n: max(v, other[n]) if isinstance(v, float) else v for n, v in one.items()}


def _draw(results: Figures, folder: Path) -> None:
    try:
        from .plots import draw
    except ModuleNotFoundError as error:
        click.echo(f"no plots: {MissingExtraError(str(error.name), 'bench')}", err=True)
        return
    draw(results, folder)


if __name__ == "__main__":
    main()
