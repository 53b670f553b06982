"""`python -m mutoscope.kernels`: what each kernel needs on each architecture; attention's error."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from ..errors import MutoscopeError
from .attention_error import CASES, relative_error
from .attention_ops import HEAD_SIZES
from .compiler import SOURCES, compile_source, nvrtc_version, read_source
from .cubin import Resources, read_resources

DEFAULT_ARCHS = "sm_75,sm_80,sm_86,sm_89,sm_90,sm_100,sm_120"

Row = tuple[str, list[Resources]]


@click.group()
def main() -> None:
    """The CUDA kernels."""


@main.command("compile")
@click.option("--arch", "archs", default=DEFAULT_ARCHS, show_default=True, metavar="LIST")
def compile_all(archs: str) -> None:
    """Compile all for the architectures of LIST, without a GPU, and print what each kernel needs.

    Ends with 1 where one spills registers to memory.
    """
    names = archs.split(",")
    try:
        rows = [row for source in SOURCES for row in measure(source, names)]
    except MutoscopeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    click.echo(f"NVRTC {nvrtc_version()}; registers a thread / bytes of shared memory a block\n")
    click.echo(table(names, rows))
    spilling = [name for name, needs in rows if any(need.stack for need in needs)]
    if spilling:
        click.echo(f"error: registers spill to memory: {', '.join(spilling)}", err=True)
        sys.exit(1)


@main.command("attention-error")
def attention_error() -> None:
    """Print how far attention with scores in int8 is from exact attention, both in NumPy."""
    click.echo("| heads of | " + " | ".join(map(str, HEAD_SIZES)) + " channels |")
    click.echo("| --- |" + " --- |" * len(HEAD_SIZES))
    for name, case in CASES.items():
        errors = (f"{relative_error(case(size)):.2%}" for size in HEAD_SIZES)
        click.echo(f"| {name} | " + " | ".join(errors) + " |")


def measure(source: str, archs: list[str]) -> Iterator[Row]:
    """Every kernel of one source, and what it needs on each architecture."""
    text = read_source(source)
    found = [read_resources(compile_source(text, source, arch)) for arch in archs]
    for kernel in found[0]:
        yield kernel, [resources[kernel] for resources in found]


def table(archs: list[str], rows: list[Row]) -> str:
    """The needs as a Markdown table; a spill is named in its cell."""
    lines = ["| kernel | " + " | ".join(archs) + " |", "| --- |" + " --- |" * len(archs)]
    lines += [f"| `{kernel}` | " + " | ".join(map(_cell, needs)) + " |" for kernel, needs in rows]
    return "\n".join(lines)


def _cell(need: Resources) -> str:
    spill = f", {need.stack} spilled" if need.stack else ""
    return f"{need.registers} / {need.shared}{spill}"


if __name__ == "__main__":
    main()
