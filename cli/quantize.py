"""`mutoscope quantize`: a bundle → a bundle with fewer bits."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from ..engine.manifest import Manifest, QualitySpec
from ..quantize import Options, QualityError, quantize_bundle
from .options import Size


@click.command(epilog="Example: mutoscope quantize ./wan-1.3b ./wan-1.3b-int8 --precision int8")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    default="int8",
    show_default=True,
    help="Of the denoisers' products: int8, activations too; int4, weights alone; fp8, activations "
    "too, for tensorrt-rtx on GPUs from sm_89 (Ada) on.",
)
@click.option(
    "--backend",
    default="onnxruntime",
    show_default=True,
    help="What will run it; tensorrt-rtx gets scales that are settled (Q/DQ), for `build`.",
)
@click.option(
    "--text-encoder",
    metavar="int8|int4|keep",
    help="Of its weights; keep leaves it as it is. By default int8, for TensorRT keep.",
)
@click.option(
    "--target-error",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.75,
    show_default=True,
    metavar="PERCENT",
    help="Of the denoisers' predictions, at each step; layers too sensitive for it get more bits "
    "or stay.",
)
@click.option(
    "--calibration",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    metavar="CLIPS",
    help="How many are made to see what the denoisers are given.",
)
@click.option(
    "--prompts",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    metavar="CLIPS",
    help="How many are made with both bundles to see what was lost.",
)
@click.option(
    "--accept-quality",
    is_flag=True,
    help="Write a bundle that misses the quality gate; it will say so.",
)
@click.option("--size", type=Size(), help="Of all those clips; by default the bundle's.")
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
    target_error: float,
    size: tuple[int, int] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize BUNDLE to the new folder OUT.

    The bundle's own clips are made to calibrate with, to see which layers are too sensitive, and
    to hold the result to bounds: predictions at each step and embeddings within 2 %, frames of
    25 dB or more, adherence within 2 points.
    """
    width, height = size or (None, None)
    named = {name: options.pop(name) for name in ("frames", "steps", "image")}
    asked = {"width": width, "height": height, **named}
    request = {name: value for name, value in asked.items() if value is not None}
    chosen = Options(target_error=target_error / 100, request=request, **options)
    started = time.perf_counter()
    try:
        manifest = quantize_bundle(bundle, out, chosen, _report)
    except QualityError as error:
        click.echo(table(error.quality), err=True)
        raise
    facts = _facts(out, manifest, time.perf_counter() - started)
    click.echo(json.dumps(facts) if as_json else _text(facts, manifest))


def _report(line: str) -> None:
    click.echo(f"{line} …", err=True)


def _facts(out: Path, manifest: Manifest, seconds: float) -> dict[str, Any]:
    return {
        "bundle": str(out),
        "precision": manifest.graphs["denoiser"].precision,
        "megabytes": round(sum(file.size for file in manifest.files.values()) / 1e6, 1),
        "seconds": round(seconds, 1),
        **msgspec.to_builtins(manifest.quantization),
    }


def _text(facts: dict[str, Any], manifest: Manifest) -> str:
    assert manifest.quantization is not None
    done = f"{facts['precision']}, {facts['megabytes']} MB, {facts['seconds']} s"
    return f"{table(manifest.quantization.quality)}\n{facts['bundle']}: {done}"


def table(quality: QualitySpec) -> str:
    """What quantization cost, a line for each figure."""
    worst = max(quality.step_errors)
    place = f"step {quality.step_errors.index(worst) + 1} of {len(quality.step_errors)}"
    lines = [f"{graph} error: {error:.2%}" for graph, error in quality.errors.items()]
    lines += [
        f"worst step: {worst:.2%} ({place}), latents at the end: {quality.latent_errors[-1]:.2%}",
        f"frames of {quality.clips} clips: PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.4f}",
    ]
    if quality.adherence is not None and quality.source_adherence is not None:
        lines += [
            f"adherence: {quality.adherence:.1%}, the source's {quality.source_adherence:.1%}"
        ]
    lines += [f"MISSED: {miss}" for miss in quality.missed]
    return "\n".join(lines)
