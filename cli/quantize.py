"""`mutoscope quantize`: a bundle → a bundle with fewer bits."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from ..engine.manifest import Manifest
from ..quantize import Options, quantize_bundle
from .options import Size


@click.command(epilog="Example: mutoscope quantize ./wan-1.3b ./wan-1.3b-int8 --precision int8")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    default="int8",
    show_default=True,
    help="Of the denoisers' products: int8, activations too; int4, weights alone.",
)
@click.option(
    "--text-encoder",
    default="int8",
    show_default=True,
    help="Of its weights: int8, int4, or keep, which leaves it as it is.",
)
@click.option(
    "--max-step-error",
    type=click.FloatRange(0, 100, min_open=True),
    default=2,
    show_default=True,
    metavar="PERCENT",
    help="Of the denoisers' predictions; what is too sensitive for it stays as it is.",
)
@click.option(
    "--calibration",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    metavar="CLIPS",
    help="How many are made to see what the denoisers are given.",
)
@click.option("--size", type=Size(), help="Of those clips; by default the bundle's.")
@click.option("--frames", type=int, help="Of those clips; 4n+1.")
@click.option("--steps", type=int, help="Of those clips.")
@click.option("--image", metavar="FILE", help="What they begin with, if the model wants one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first one's noise.")
@click.option("--threads", type=int, help="CPU threads; by default all cores.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    out: Path,
    *,
    max_step_error: float,
    size: tuple[int, int] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize BUNDLE to the new folder OUT.

    The bundle's own clips are made to calibrate with, and to see which layers are too sensitive.
    """
    width, height = size or (None, None)
    named = {name: options.pop(name) for name in ("frames", "steps", "image")}
    asked = {"width": width, "height": height, **named}
    request = {name: value for name, value in asked.items() if value is not None}
    chosen = Options(step_error=max_step_error / 100, request=request, **options)
    started = time.perf_counter()
    manifest = quantize_bundle(bundle, out, chosen, _report)
    facts = _facts(out, manifest, time.perf_counter() - started)
    click.echo(json.dumps(facts) if as_json else _text(facts))


def _report(line: str) -> None:
    click.echo(f"{line} …", err=True)


def _facts(out: Path, manifest: Manifest, seconds: float) -> dict[str, Any]:
    assert manifest.quantization is not None
    return {
        "bundle": str(out),
        "precision": manifest.graphs["denoiser"].precision,
        "formats": manifest.quantization.formats,
        "megabytes": round(sum(file.size for file in manifest.files.values()) / 1e6, 1),
        "seconds": round(seconds, 1),
    }


def _text(facts: dict[str, Any]) -> str:
    return f"{facts['bundle']}: {facts['precision']}, {facts['megabytes']} MB, {facts['seconds']} s"
