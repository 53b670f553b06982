"""The GPU path of this machine, part by part, each in a process of its own.

    python -m mutoscope.bench.gpu_suite --out results

One part's failure hides no other: what failed or was skipped stands in the results with its reason.
Results are written after every part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import UserError, unknown
from .machine import describe

SIZES = ((832, 480, 81), (416, 240, 17))
SMALL = ((64, 32, 5),)
PART_SECONDS = 300
RESULTS = "gpu-suite.json"
GPU_FACTS = "name,driver_version,memory.total,power.limit,clocks.max.sm,compute_cap"


class SkippedError(Exception):
    """A part that cannot run here, and why."""


def environment(small: bool) -> dict[str, Any]:
    """The card by its driver, and the machine."""
    command = ["nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        card = None
    else:
        values = told.stdout.splitlines()[0].split(", ")
        card = dict(zip(GPU_FACTS.split(","), values, strict=True))
    return {"gpu": card, **describe()}


def ceilings(small: bool) -> dict[str, Any]:
    """Copy bandwidth and matmul rates."""
    device = _torch_device(small)
    from .peers.ceilings import measure

    return measure(device, **({"copied": 1 << 20, "side": 64} if small else {}))


def kernels(small: bool) -> dict[str, Any]:
    """Our kernels: bandwidth beside a copy's, and how far they are from their statements."""
    from .gpu_kernels import measure

    try:
        return measure()
    except UserError as error:
        raise SkippedError(str(error)) from None


def diffusers_eager(small: bool) -> dict[str, Any]:
    """One denoiser pass of diffusers, eager."""
    return _diffusers(small, compiled=False)


def diffusers_compiled(small: bool) -> dict[str, Any]:
    """The same through `torch.compile`."""
    return _diffusers(small, compiled=True)


def diffusers_vae(small: bool) -> dict[str, Any]:
    """A clip through diffusers' decoder."""
    device = _torch_device(small)
    from .peers.diffusers_wan import Size, vae

    base = 4 if small else 96
    return {"sizes": [vae(device, Size(*size), base=base) for size in _sizes(small)]}


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "environment": environment,
    "ceilings": ceilings,
    "kernels": kernels,
    "diffusers-eager": diffusers_eager,
    "diffusers-compiled": diffusers_compiled,
    "diffusers-vae": diffusers_vae,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="By commas.")
@click.option("--seconds", default=PART_SECONDS, show_default=True, help="Allowed to each part.")
@click.option("--small", is_flag=True, help="Tiny sizes, on the CPU too: tries the suite itself.")
@click.option("--one", hidden=True, help="Run one part here and print its result.")
def main(out: Path, parts: str, seconds: int, small: bool, one: str | None) -> None:
    """Measure the GPU path of this machine."""
    if one is not None:
        click.echo(json.dumps(_here(one, small)))
        return
    names = parts.split(",")
    for name in names:
        if name not in PARTS:
            raise click.BadParameter(unknown("part", name, PARTS))
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"small": small}
    for name in names:
        results[name] = _apart(name, small, seconds)
        click.echo(f"{name}: {_summary(results[name])}", err=True)
        _write(out / RESULTS, results)
    click.echo(out / RESULTS)


def _here(name: str, small: bool) -> dict[str, Any]:
    try:
        return {"state": "done", **PARTS[name](small)}
    except SkippedError as reason:
        return {"state": "skipped", "reason": str(reason)}
    except Exception as error:
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def _apart(name: str, small: bool, seconds: int) -> dict[str, Any]:
    """A part's result, from a new process, whatever becomes of that process."""
    command = [sys.executable, "-P", "-m", __spec__.name, "--one", name]
    if small:
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


def _write(path: Path, results: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.partial")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def _diffusers(small: bool, *, compiled: bool) -> dict[str, Any]:
    device = _torch_device(small)
    from .peers.diffusers_wan import TINY, WAN_1_3B, Size, denoiser

    layout = TINY if small else WAN_1_3B
    measured = [denoiser(device, layout, Size(*s), compiled=compiled) for s in _sizes(small)]
    return {"sizes": measured}


def _sizes(small: bool) -> tuple[tuple[int, int, int], ...]:
    return SMALL if small else SIZES


def _torch_device(small: bool) -> str:
    try:
        from .peers.timing import has_cuda
    except ImportError:
        raise SkippedError("PyTorch is not installed") from None
    if has_cuda():
        return "cuda"
    if small:
        return "cpu"
    raise SkippedError("PyTorch finds no CUDA device")


if __name__ == "__main__":
    main()
