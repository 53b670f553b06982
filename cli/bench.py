"""`mutoscope bench`: measure every stage and whole clips here, or what their quality is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .. import load
from ..bench.machine import describe
from ..bench.measure import Repeat
from ..bench.report import FORMATS
from ..bench.stages import PROMPT, Stages, generate
from ..errors import UserError, unknown
from ..runtime.request import Request, settle
from .bench_quality import Judgement, judge
from .options import SWEPT, split, sweep_options

STAGES_ONLY = ("stages", "warmup", "repetitions")
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
    "--quality",
    is_flag=True,
    help="What clips show of their prompts, and how like a reference's they are, instead of times. "
    "Bundle, backend, scheduler, shift, steps and guidance may have several values: 4,30.",
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

    Stages: warm-up, repetitions, mean ± standard deviation. Quality: one line for each combination
    of the values given.
    """
    logging.getLogger("mutoscope").setLevel(logging.WARNING)
    for name in STAGES_ONLY if quality else QUALITY_ONLY:
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {'does not go with' if quality else 'needs'} --quality")
    stages = {name: options.pop(name) for name in STAGES_ONLY}
    judgement = Judgement(**{name: options.pop(name) for name in QUALITY_ONLY})
    if quality:
        judge(judgement, form, options)
    else:
        _time(form, _single(options), **stages)


def _time(
    form: str, options: dict[str, Any], *, stages: str | None, warmup: int, repetitions: int
) -> None:
    """Measure stages, and print the table."""
    engine, request = split(options)
    arguments = _arguments(engine, request)
    request = {"seed": 0, **{name: value for name, value in request.items() if value is not None}}
    with load(**engine) as pipe:
        settle(Request.of(PROMPT, request), pipe.bundle.manifest)
        measured = Stages(pipe, Repeat(warmup, repetitions), request, arguments)
        measurements = []
        for name in _choose(stages, list(measured.all)):
            click.echo(f"measuring {name} …", err=True)
            measurements.append(measured.all[name]())
    record = generate(arguments)
    facts = {
        "bundle": record["bundle"]["name"],
        "precision": record["bundle"]["precision"],
        "backend": record["backend"],
        **{name: record["settings"][name] for name in ("width", "height", "frames", "steps")},
        "peak_memory_mb": record["peak_memory_mb"],
        **describe(),
    }
    click.echo(FORMATS[form](measurements, facts))


def _single(options: dict[str, Any]) -> dict[str, Any]:
    """The options with one value each, or none."""
    for name in SWEPT:
        values = options[name]
        if len(values) > 1:
            flag = name.removesuffix("_scale")
            raise UserError(f"--{flag} takes several values with --quality only; give one")
        options[name] = values[0] if values else None
    return options


def _choose(chosen: str | None, names: list[str]) -> list[str]:
    wanted = [name.strip() for name in chosen.split(",")] if chosen else names
    for name in wanted:
        if name not in names:
            raise UserError(unknown("stage", name, names))
    return wanted


def _arguments(engine: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """The same request, as arguments of `mutoscope generate`."""
    flags = {
        "guidance_scale": "guidance",
        "guidance_scale_2": "guidance-2",
        "negative_prompt": "negative",
    }
    values = {**engine, **request}
    loras = values.pop("loras")
    width, height = values.pop("width"), values.pop("height")
    values["size"] = width and f"{width}x{height}"
    given = [(flags.get(name, name), value) for name, value in values.items() if value is not None]
    given += [("lora", f"{path}:{scale}") for path, scale in loras.items()]
    return [part for name, value in given for part in (f"--{name}", str(value))]
