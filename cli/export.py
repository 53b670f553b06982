"""`mutoscope export`: a trained checkpoint → a bundle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from ..engine.manifest import Manifest
from ..export import Options, export_bundle
from ..export.exporter import PRECISIONS
from ..export.verify import VerifyError, table


@click.command(
    epilog="Example: mutoscope export Wan-AI/Wan2.1-T2V-1.3B-Diffusers ./wan-1.3b --precision fp16"
)
@click.argument("checkpoint")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the graphs; what has to be fp32 in fp16 stays so.",
)
@click.option("--graphs", metavar="A,B", help="Only these and the denoisers; by default all.")
@click.option(
    "--default",
    "defaults",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change the default request, e.g. width=64; may be repeated.",
)
@click.option(
    "--lora",
    "loras",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Goes along, to be asked for by its name; may be repeated.",
)
@click.option(
    "--preset",
    "presets",
    metavar="NAME:KEY=VALUE,…",
    multiple=True,
    help="A way to make clips, e.g. fast:lora=four-steps,steps=4,guidance_scale=1; may be "
    "repeated. The first is what generate does when it is not told.",
)
@click.option(
    "--max-sequence-length",
    type=int,
    metavar="TOKENS",
    help="What prompts are padded or cut to; by default what the family was trained on.",
)
@click.option("--name", help="Of the bundle; by default its folder's.")
@click.option("--license", "license_name", metavar="SPDX", help="Of the weights, e.g. Apache-2.0.")
@click.option("--verify", is_flag=True, help="Compare every graph, and a clip, with PyTorch.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: str,
    bundle: Path,
    *,
    graphs: str | None,
    license_name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Export CHECKPOINT to the new folder BUNDLE.

    CHECKPOINT is a folder in diffusers' format, or a model on the Hugging Face Hub: org/name or
    org/name@revision.
    """
    chosen = Options(
        graphs=[name.strip() for name in graphs.split(",")] if graphs else (),
        license=license_name,
        **options,
    )
    started = time.perf_counter()
    try:
        manifest = export_bundle(checkpoint, bundle, chosen, _report)
    except VerifyError as error:
        click.echo(table(error.checks), err=True)
        raise
    facts = _facts(bundle, manifest, time.perf_counter() - started)
    click.echo(json.dumps(facts) if as_json else _text(facts, manifest))


def _report(line: str) -> None:
    click.echo(f"{line} …", err=True)


def _facts(bundle: Path, manifest: Manifest, seconds: float) -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "name": manifest.name,
        "family": manifest.family,
        "precision": manifest.graphs["denoiser"].precision,
        "graphs": list(manifest.graphs),
        "megabytes": round(sum(file.size for file in manifest.files.values()) / 1e6, 1),
        "seconds": round(seconds, 1),
        "checks": msgspec.to_builtins(manifest.checks),
    }


def _text(facts: dict[str, Any], manifest: Manifest) -> str:
    done = (
        f"{facts['bundle']}: {len(facts['graphs'])} graphs in {facts['precision']}, "
        f"{facts['megabytes']} MB, {facts['seconds']} s"
    )
    return f"{table(manifest.checks)}\n{done}" if manifest.checks else done
