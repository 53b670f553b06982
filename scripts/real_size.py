"""Run commands one after another, and print what each took: seconds, peak memory, disk.

    python scripts/real_size.py COMMANDS.txt

One command a line, quoted as a shell wants it; `#` begins a remark. A failing one ends the run.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

GB = 1 << 30


def measure(command: str) -> tuple[float, float, int]:
    """Seconds, GB of the process's peak memory, and its exit code."""
    began = time.monotonic()
    process = subprocess.Popen(shlex.split(command))
    _, status, used = os.wait4(process.pid, 0)
    return time.monotonic() - began, 1024 * used.ru_maxrss / GB, os.waitstatus_to_exitcode(status)


@click.command()
@click.argument("commands", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(commands: Path) -> None:
    """Run the lines of COMMANDS, and print a table's rows as they come."""
    click.echo("| command | seconds | peak memory |\n| --- | --- | --- |")
    for line in commands.read_text().splitlines():
        command = line.partition("#")[0].strip()
        if not command:
            continue
        seconds, peak, code = measure(command)
        click.echo(f"| `{command}` | {seconds:.0f} | {peak:.2f} GB |")
        if code:
            sys.exit(f"{command}: exit code {code}")


if __name__ == "__main__":
    main()
