"""`mutoscope bench`: measure every stage and whole clips here, or what their quality is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..bench.report import FORMATS
from ..errors import UserError
from .bench_quality import Judgement, judge
from .bench_times import Timing, time_stages
from .options import SWEPT, TIMED, sweep_options

STAGES_ONLY = ("stages", "warmup", "repetitions", "compare")
QUALITY_ONLY = (
    "prompts", "reference", "contact_sheet", "overwrite", "min_psnr", "max_adherence_loss",
)  # fmt: skip


@click.command(
    epilog="Example: mutoscope bench --steps 8 --repetitions 10 -o json, "
    "or: mutoscope bench --quality --steps 4,30 --scheduler euler,unipc"
)
@sweep_options
@click.option("--stages", metavar="A,B", help="Only these, e.g. 'clip,cold start'.")
@click.option("--warmup", type=click.IntRange(0), default=1, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="Print ratios to what an earlier bench -o json wrote.",
)
@click.option(
    "--quality",
    is_flag=True,
    help="What clips show of their prompts, and how like a reference's they are, instead of times.",
)
@click.option(
    "--prompts", type=int, default=32, show_default=True, help="How many, with --quality."
)
@click.option(
    "--reference",
    metavar="BUNDLE",
    help="Compare with its clips of 30 steps; by default with the most precise bundle's.",
)
@click.option(
    "--contact-sheet", type=click.Path(path_type=Path), metavar="PNG", help="Of all clips."
)
@click.option("--overwrite", is_flag=True, help="Replace a contact sheet that is there.")
@click.option("--min-psnr", type=float, metavar="DB", help="Exit with 1 below it.")
@click.option(
    "--max-adherence-loss", type=float, metavar="POINTS", help="Exit with 1 if more are lost."
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(list(FORMATS)),
    default="md",
    show_default=True,
    help="How to print the results.",
)
@click.pass_context
def command(ctx: click.Context, /, *, quality: bool, form: str, **options: Any) -> None:
    """Time the stages of a clip, or judge whole clips.

    Stages: warm-up, repetitions, mean ± standard deviation. Quality: one line for each combination.
    Bundle, precision, backend, scheduler, shift, steps and guidance may have several values, as in
    --steps 4,30; for times also size, frames and threads. Several precisions want a bundle each.
    """
    logging.getLogger("mutoscope").setLevel(logging.WARNING)
    for name in STAGES_ONLY if quality else QUALITY_ONLY:
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {'does not go with' if quality else 'needs'} --quality")
    timing = Timing(**{name: options.pop(name) for name in STAGES_ONLY})
    judgement = Judgement(**{name: options.pop(name) for name in QUALITY_ONLY})
    if quality:
        judge(judgement, form, _single(options))
    else:
        time_stages(timing, form, options)


def _single(options: dict[str, Any]) -> dict[str, Any]:
    """What clips are judged at has one value, or none."""
    for name in set(TIMED) - set(SWEPT):
        values = options[name]
        if len(values) > 1:
            raise UserError(f"--{name} takes several values without --quality only; give one")
        options[name] = values[0] if values else None
    return options
