"""`mutoscope engines`: what was built, and what of it is of no use any more."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import click

from ..engine.spec import RECIPE, EngineSpec, system_name
from ..engine.store import Engine, EngineStore
from .build import facts

FOLDER = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Another store than the user's cache.",
)


@click.group(epilog="Example: mutoscope engines list")
def command() -> None:
    """Look at the engines in the store, or remove some."""


@command.command("list", epilog="Example: mutoscope engines list --json")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_engines(output: Path | None, *, as_json: bool) -> None:
    """Tell what engines there are, newest first."""
    engines = EngineStore(output).engines()
    if as_json:
        click.echo(json.dumps({"engines": [facts(engine) for engine in engines]}))
        return
    for engine in engines:
        click.echo(_line(engine))
    click.echo(f"{len(engines)} engines, {sum(e.record.plan.size for e in engines) / 1e6:.1f} MB")


@command.command("prune", epilog="Example: mutoscope engines prune")
@FOLDER
@click.option("--all", "everything", is_flag=True, help="Remove every engine.")
def prune(output: Path | None, *, everything: bool) -> None:
    """Remove engines of other versions than are installed, damaged ones, and half-written ones."""
    freed = EngineStore(output).prune(lambda spec: not everything and current(spec))
    click.echo(f"{freed / 1e6:.1f} MB freed")


def current(spec: EngineSpec) -> bool:
    """Whether the package that built an engine is installed here, in that version."""
    try:
        installed = metadata.version(spec.backend)
    except metadata.PackageNotFoundError:
        return False
    return (spec.version, spec.system, spec.recipe) == (installed, system_name(), RECIPE)


def _line(engine: Engine) -> str:
    record, spec = engine.record, engine.record.spec
    axes = ", ".join(
        f"{axis} {low}–{high}" if low != high else f"{axis} {low}"
        for axis, (low, _, high) in spec.profile.items()
    )
    return (
        f"{engine.path.name}: {record.bundle}, {spec.precision}, {spec.backend} {spec.version}, "
        f"{' '.join(spec.targets)}, {axes}, {record.plan.size / 1e6:.1f} MB"
    )
