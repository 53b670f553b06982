"""`mutoscope bench`: measure every stage and whole clips here."""

from __future__ import annotations

import logging
from typing import Any

import click

from .. import load
from ..bench.machine import describe
from ..bench.measure import Repeat
from ..bench.report import FORMATS
from ..bench.stages import PROMPT, Stages, generate
from ..errors import UserError, unknown
from ..runtime.request import Request, settle
from .options import engine_options, request_options, split


@click.command(epilog="Example: mutoscope bench --steps 8 --repetitions 10 -o json")
@request_options
@engine_options
@click.option("--stages", "chosen", metavar="A,B", help="Only these, e.g. 'clip,cold start'.")
@click.option("--warmup", type=click.IntRange(0), default=1, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(list(FORMATS)),
    default="md",
    show_default=True,
    help="How to print the results.",
)
def command(chosen: str | None, warmup: int, repetitions: int, form: str, **options: Any) -> None:
    """Time the stages of a clip: warm-up, repetitions, mean ± standard deviation."""
    logging.getLogger("mutoscope").setLevel(logging.WARNING)
    engine, request = split(options)
    arguments = _arguments(engine, request)
    request = {"seed": 0, **{name: value for name, value in request.items() if value is not None}}
    with load(**engine) as pipe:
        settle(Request.of(PROMPT, request), pipe.bundle.manifest)
        stages = Stages(pipe, Repeat(warmup, repetitions), request, arguments)
        measurements = []
        for name in _choose(chosen, list(stages.all)):
            click.echo(f"measuring {name} …", err=True)
            measurements.append(stages.all[name]())
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


def _choose(chosen: str | None, names: list[str]) -> list[str]:
    wanted = [name.strip() for name in chosen.split(",")] if chosen else names
    for name in wanted:
        if name not in names:
            raise UserError(unknown("stage", name, names))
    return wanted


def _arguments(engine: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """The same request, as arguments of `mutoscope generate`."""
    flags = {"guidance_scale": "guidance", "negative_prompt": "negative"}
    values = {**engine, **request}
    loras = values.pop("loras")
    width, height = values.pop("width"), values.pop("height")
    values["size"] = width and f"{width}x{height}"
    given = [(flags.get(name, name), value) for name, value in values.items() if value is not None]
    given += [("lora", f"{path}:{scale}") for path, scale in loras.items()]
    return [part for name, value in given for part in (f"--{name}", str(value))]
