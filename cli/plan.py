"""`mutoscope plan`: what a clip will take, and where and how it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..engine import Bundle
from ..engine.lora import open_loras
from ..engine.open import check_loras
from ..engine.presets import choose_preset
from ..errors import UserError
from ..runtime.arithmetic import HostArithmetic
from ..runtime.plan import ONNXRUNTIME, TENSORRT, Machine, make_plan
from ..runtime.request import Request, settle
from .options import Amount, ScaledPath, Size, by_file, scaled_path
from .plan_report import Report

ANY_PROMPT = "any"
ANY_IMAGE = np.zeros((1, 1, 3), np.uint8)
"""For a clip that is to begin with one, and for a bundle that makes no others."""


@click.command(epilog="Example: mutoscope plan ./wan-1.3b --size 832x480 --frames 81 --vram 12GB")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", help="As of generate.")
@click.option("--lora", "loras", type=ScaledPath(), multiple=True, help="As of generate.")
@click.option("--size", type=Size(), help="Width and height in pixels, e.g. 832x480.")
@click.option("--frames", type=int, help="How many; 4n+1.")
@click.option("--image", "from_image", is_flag=True, help="The clip begins with an image.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="Guidance scale; 1 switches it off.")
@click.option("--vae-tile", type=int, metavar="PIXELS", help="Side of the tiles of the VAE.")
@click.option("--ram", type=Amount(), help="The machine's memory; by default this one's.")
@click.option("--vram", type=Amount(), help="The GPU's memory; without it none is planned for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    *,
    preset: str | None,
    loras: tuple[tuple[str, float, str | None], ...],
    size: tuple[int, int] | None,
    from_image: bool,
    ram: int | None,
    vram: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Tell what a clip of BUNDLE will take, and how to run it; exit with 2 where it fits nowhere.

    Told from the graphs: nothing is run, no weights are loaded. What it says of a GPU is an
    estimate that no GPU has confirmed.
    """
    runs = ONNXRUNTIME if vram is None else TENSORRT
    opened = choose_preset(Bundle.open(bundle), preset, runs)
    added = open_loras(by_file(loras), opened)
    check_loras(opened, runs, added)
    width, height = size or (None, None)
    image = ANY_IMAGE if from_image or opened.manifest.denoiser.image == "channels" else None
    request = Request(prompt=ANY_PROMPT, image=image, width=width, height=height, **options)
    machine = Machine(ram or HostArithmetic().memory, vram)
    plan = make_plan(opened, settle(request, opened.manifest), machine, added)
    said = opened.preset if opened.manifest.presets else None
    asked = {"preset": said, "loras": tuple(map(scaled_path, loras)), **options}
    report = Report(plan, str(bundle), asked)
    click.echo(json.dumps(report.facts()) if as_json else "\n".join(report.lines()))
    if plan.chosen is None:
        raise UserError(report.refusal())
