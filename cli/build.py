"""`mutoscope build`: a bundle → TensorRT engines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..engine import Bundle, EngineOptions
from ..engine.backends.tensorrt.build import FLAGS
from ..engine.backends.tensorrt.engines import build_engine, can_build, describe
from ..engine.backends.tensorrt.int8_attention import FLAG
from ..engine.backends.tensorrt.package import PACKAGES, Package
from ..engine.manifest import Manifest
from ..engine.memory import free_memory
from ..engine.planner import build_memory, weights_of
from ..engine.profiles import LatentSize
from ..engine.store import Engine, EngineStore
from ..errors import UserError
from ..kernels.device import Device
from ..kernels.devices import open_device
from ..runtime.plan import shown
from ..runtime.request import check_size, latent_shape
from .progress import BuildProgress


@click.command(
    epilog="Example: mutoscope build ./wan-1.3b --backend tensorrt-rtx --arch sm_86,sm_89,sm_120 "
    "--profile 832x480x81"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--backend", type=click.Choice(list(PACKAGES)), default="tensorrt-rtx", show_default=True
)
@click.option(
    "--arch",
    metavar="SM,SM",
    help="Compute capabilities to build for, e.g. sm_89; by default this machine's GPU.",
)
@click.option(
    "--profile",
    metavar="WxHxF,WxHxF",
    help="Clips to be made, the usual one first; all sizes between the smallest and the largest "
    "work. By default the bundle's default request.",
)
@click.option("--graphs", metavar="A,B", help="Only these; by default all.")
@click.option("--refit", is_flag=True, help="Weights can be changed later; needs a GPU here.")
@click.option("--strip-weights", is_flag=True, help="Leave the weights out; needs a GPU here.")
@click.option("--weight-streaming", is_flag=True, help="Weights may stay in the host's memory.")
@click.option(
    "--sequential-guidance",
    is_flag=True,
    help="Denoisers take one prediction at a time: less memory; for generate's of that name.",
)
@click.option(
    "--int8-attention",
    is_flag=True,
    help="Scores of the denoiser's attention in int8; for mutoscope generate --int8-attention.",
)
@click.option("--threads", type=int, help="CPU threads; by default TensorRT decides.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="An engine store of its own; by default the user's cache.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    *,
    backend: str,
    arch: str | None,
    profile: str | None,
    graphs: str | None,
    threads: int | None,
    output: Path | None,
    sequential_guidance: bool,
    as_json: bool,
    int8_attention: bool,
    **flags: bool,
) -> None:
    """Build engines of BUNDLE, a folder that `mutoscope export` wrote."""
    package, options = PACKAGES[backend], EngineOptions(threads)
    opened = Bundle.open(bundle)
    names = split(graphs) or [name for name in opened.manifest.graphs if can_build(opened, name)]
    sizes = _sizes(opened.manifest, split(profile))
    targets, device = _targets(package, split(arch))
    chosen = [flag for flag in FLAGS if flags[flag.replace("-", "_")]]
    if int8_attention:
        chosen.append(FLAG)
    batched = not sequential_guidance
    specs = [
        describe(package, opened, name, sizes, targets, chosen, device, batched=batched)
        for name in names
    ]
    store, engines = EngineStore(output), []
    for spec in specs:
        _foretell_memory(opened, spec.graph)
        with BuildProgress(spec.graph) as progress:
            engine = build_engine(store, opened, spec, options.threads, progress)
        engines.append(facts(engine))
        if not as_json:
            click.echo(_line(engine))
    if as_json:
        click.echo(json.dumps({"bundle": str(bundle), "engines": engines}))


def facts(engine: Engine) -> dict[str, Any]:
    """What is printed of an engine."""
    record, spec = engine.record, engine.record.spec
    return {
        "graph": spec.graph,
        "precision": spec.precision,
        "bundle": record.bundle,
        "backend": spec.backend,
        "version": spec.version,
        "targets": list(spec.targets),
        "profile": {axis: list(lengths) for axis, lengths in spec.profile.items()},
        "flags": list(spec.flags),
        "seconds": record.seconds,
        "megabytes": round(record.plan.size / 1e6, 1),
        "layers": record.layers,
        "peak_memory_mb": record.peak_memory_mb,
        "weights_mb": record.weights_mb,
        "activations_mb": record.activations_mb,
        "path": str(engine.path),
    }


def split(text: str | None) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in text.split(",")] if text else []


def _line(engine: Engine) -> str:
    record = engine.record
    layers = ", ".join(f"{count} {precision}" for precision, count in record.layers.items())
    return (
        f"{record.spec.graph}: {record.seconds:.1f} s, {record.plan.size / 1e6:.1f} MB, "
        f"{sum(record.layers.values())} layers ({layers}), peak {record.peak_memory_mb:.0f} MB"
    )


def _foretell_memory(bundle: Bundle, graph: str) -> None:
    """Say that memory may not suffice, before the time is spent."""
    wanted, free = build_memory(weights_of(bundle, graph)), free_memory()
    if free is not None and wanted > free:
        click.echo(
            f"{graph}: to build it takes roughly {shown(wanted)} of memory, {shown(free)} are "
            "free; if that ends it, build on a larger machine, or choose other --graphs",
            err=True,
        )


def _targets(package: Package, named: Sequence[str]) -> tuple[tuple[str, ...], Device | None]:
    """What to build for, and the device to build on, where it is not for others.

    Raises:
        UserError: nothing is named and there is no GPU, or the package cannot build for others.
    """
    if named and not package.ahead_of_time:
        raise UserError(f"{package.backend} builds for the GPU it runs on: leave --arch out")
    if named:
        return package.check_targets(tuple(named)), None
    known = package.capabilities() if package.ahead_of_time else ()
    package.load()
    try:
        return (), open_device()
    except UserError as error:
        if not known:
            raise
        raise UserError(
            "no NVIDIA GPU is here to build for; name compute capabilities with --arch, "
            f"e.g. {','.join(known[-2:])} (known: {', '.join(known)})"
        ) from error


def _sizes(manifest: Manifest, profiles: Sequence[str]) -> list[LatentSize]:
    return [_size(manifest, text) for text in profiles] or [LatentSize.default(manifest)]


def _size(manifest: Manifest, text: str) -> LatentSize:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--profile: {text!r} is not WIDTHxHEIGHTxFRAMES, e.g. 832x480x81")
    width, height, frames = check_size(manifest, *(int(part[:9]) for part in parts))
    return LatentSize(*latent_shape(manifest, width, height, frames)[2:])
