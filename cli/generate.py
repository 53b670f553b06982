"""`mutoscope generate`: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .. import load
from ..runtime.clip import Clip
from ..runtime.output import Output, check_preview
from ..runtime.video.spec import DITHERS, NO_DITHER
from .options import engine_options, request_options, split
from .progress import Progress


@click.command(
    epilog='Example: mutoscope generate "a red circle moves left to right" -o clip.mp4 --seed 7'
)
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    default="clip.mp4",
    show_default=True,
    metavar="FILE",
    help="What to write: .mp4, .mkv, .webm, .gif, .png, or a folder for PNGs.",
)
@request_options
@engine_options
@click.option("--codec", help="h264, hevc, av1 or vp9; by default the container's usual one.")
@click.option(
    "--encoder",
    default="auto",
    show_default=True,
    help="auto (hardware where it works), software, or FFmpeg's name, e.g. h264_nvenc.",
)
@click.option("--quality", type=int, help="Of the encoding, 0 to 100.")
@click.option("--depth", type=int, default=8, help="Bits of a channel: 8, or 10 (hevc, av1).")
@click.option(
    "--dither",
    type=click.Choice(DITHERS),
    default=NO_DITHER,
    show_default=True,
    help="How a video's colours are rounded: bayer hides the steps of smooth gradients.",
)
@click.option("--preview", metavar="PNG", help="Rewritten after each step: the clip so far.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--no-metadata", is_flag=True, help="No prompt in the file, no record beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as one JSON object.")
def command(prompt: str, **options: Any) -> None:
    """Make a video of PROMPT."""
    output = Output(
        options.pop("output"),
        codec=options.pop("codec"),
        encoder=options.pop("encoder"),
        quality=options.pop("quality"),
        depth=options.pop("depth"),
        dither=options.pop("dither"),
        overwrite=options.pop("overwrite"),
        metadata=not options.pop("no_metadata"),
    )
    as_json, preview = options.pop("as_json"), options.pop("preview")
    engine, request = split(options)
    if preview:
        check_preview(Path(preview), output)
    with load(**engine, keep_open=False) as pipe, Progress(preview and Path(preview)) as progress:
        clip = pipe(prompt, output=output, on_step=progress, **request)
    click.echo(json.dumps(clip.record.as_dict()) if as_json else _summary(clip))


def _summary(clip: Clip) -> str:
    settings, seconds = clip.record.settings, clip.record.seconds
    return (
        f"{clip.path}: {settings['frames']} frames, {settings['width']}x{settings['height']}, "
        f"{settings['fps']:g} fps, seed {settings['seed']}, {seconds['total']:.2f} s"
    )
