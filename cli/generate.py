"""`mutoscope generate`: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .. import load
from ..runtime.clip import Clip
from ..runtime.output import Output
from .progress import Progress


class Size(click.ParamType):
    """WIDTHxHEIGHT in pixels."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Both numbers."""
        width, cross, height = str(value).lower().partition("x")
        if not (cross and width.isdecimal() and height.isdecimal()):
            self.fail(f"{value!r} is not WIDTHxHEIGHT, e.g. 64x96", param, ctx)
        return int(width), int(height)


@click.command(
    epilog='Example: mutoscope generate "a red circle moves left to right" -o clip.mp4 --seed 7'
)
@click.argument("prompt")
@click.option(
    "-o", "--output", default="clip.mp4", show_default=True, metavar="FILE",
    help="What to write: .mp4, .mkv, .webm, .gif, .png, or a folder for PNGs.",
)
@click.option("--bundle", metavar="DIR", help="An exported model; by default the embedded one.")
@click.option("--size", type=Size(), help="Width and height in pixels, e.g. 64x96.")
@click.option("--frames", type=int, help="How many; 4n+1.")
@click.option("--fps", type=float, help="Frames a second.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="Guidance scale; 1 switches it off.")
@click.option("--negative", "negative_prompt", metavar="TEXT", help="What to lead away from.")
@click.option("--seed", type=int, help="Of the initial noise; by default another one each time.")
@click.option("--scheduler", metavar="NAME", help="euler, unipc or dpmpp-2m.")
@click.option("--shift", type=float, help="Of the flow-matching sigmas.")
@click.option("--backend", default="onnxruntime", show_default=True, help="What runs the engines.")
@click.option("--precision", help="What the bundle must have, e.g. fp32.")
@click.option("--threads", type=int, help="CPU threads; by default all cores.")
@click.option("--codec", help="h264, hevc, av1 or vp9; by default the container's usual one.")
@click.option(
    "--encoder", default="auto", show_default=True,
    help="auto (hardware where it works), software, or FFmpeg's name, e.g. h264_nvenc.",
)
@click.option("--quality", type=int, help="Of the encoding, 0 to 100.")
@click.option("--preview", metavar="PNG", help="Rewritten after each step: the clip so far.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--no-metadata", is_flag=True, help="No prompt in the file, no record beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as one JSON object.")
def command(prompt: str, **options: Any) -> None:
    """Make a video of PROMPT."""
    output = Output(
        Path(options.pop("output")),
        codec=options.pop("codec"),
        encoder=options.pop("encoder"),
        quality=options.pop("quality"),
        overwrite=options.pop("overwrite"),
        metadata=not options.pop("no_metadata"),
    )
    as_json, preview = options.pop("as_json"), options.pop("preview")
    engine = {name: options.pop(name) for name in ("bundle", "backend", "precision", "threads")}
    options["width"], options["height"] = options.pop("size") or (None, None)
    with load(**engine) as pipe, Progress(preview and Path(preview)) as progress:
        clip = pipe(prompt, output=output, on_step=progress, **options)
    click.echo(json.dumps(clip.record.as_dict()) if as_json else _summary(clip))


def _summary(clip: Clip) -> str:
    settings, seconds = clip.record.settings, clip.record.seconds
    return (
        f"{clip.path}: {settings['frames']} frames, {settings['width']}x{settings['height']}, "
        f"{settings['fps']:g} fps, seed {settings['seed']}, {seconds['total']:.2f} s"
    )
