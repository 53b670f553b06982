"""`mutoscope bench`: time stages and whole clips, for each combination of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import load
from ..bench.baseline import SETTINGS, Baseline
from ..bench.machine import describe
from ..bench.measure import Measurement, Repeat
from ..bench.report import FORMATS, Report, Run, interval, listed
from ..bench.stages import PROMPT, STAGES, Stages, generate
from ..engine.lora import Scale
from ..errors import UserError, unknown
from ..runtime.request import Request, settle
from .options import TIMED, flag, split
from .sweep import combinations


@dataclass(frozen=True)
class Timing:
    """The options that only timing takes; they are explained with the command."""

    stages: str | None
    warmup: int
    repetitions: int
    compare: Path | None


def time_stages(timing: Timing, form: str, options: dict[str, Any]) -> None:
    """Measure every combination of the options' values, and print the table.

    Raises:
        UserError: options that cannot be; all combinations are looked at before any is measured.
    """
    names = _choose(timing.stages)
    plans = [_plan(*split({**options, **each})) for each in combinations(options, TIMED)]
    machine = describe()
    baseline = None if timing.compare is None else _baseline(timing.compare, plans, names)
    if baseline is not None and baseline.cpu != machine["cpu"]:
        click.echo(f"note: {timing.compare} was measured on {baseline.cpu}", err=True)
    repeat = Repeat(timing.warmup, timing.repetitions)
    runs = [_run(plan, repeat, names) for plan in plans]
    machine["energy"] = str(repeat.meter)
    click.echo(FORMATS[form](Report(runs, machine, baseline)))


@dataclass(frozen=True)
class _Plan:
    """One combination: the arguments of `load`, a request, and what is told of them."""

    engine: dict[str, Any]
    request: dict[str, Any]
    facts: dict[str, Any]


def _plan(engine: dict[str, Any], request: dict[str, Any]) -> _Plan:
    named = (
        "width", "height", "frames", "steps", "guidance_scale", "guidance_scale_2",
        "guidance_method", "zero_init_steps", "apg_eta", "apg_norm_threshold", "guidance_rescale",
        "step_cache", "scheduler", "shift", "shift_terminal", "vae_tile",
    )  # fmt: skip
    with load(**engine) as pipe:
        settings = settle(Request.of(PROMPT, _given(request)), pipe.bundle.manifest)
        facts = {
            "bundle": pipe.bundle.manifest.name,
            "precision": pipe.bundle.precision,
            "backend": engine["backend"],
            "preset": pipe.bundle.preset,
            "threads": engine["threads"] or "all",
            "guidance_interval": interval(settings.guidance_interval),
            **{name: getattr(settings, name) for name in named},
            "sigmas": listed(settings.sigmas),
        }
    return _Plan(engine, request, facts)


def _baseline(path: Path, plans: list[_Plan], names: list[str]) -> Baseline:
    baseline = Baseline(path)
    if not any(baseline.knows(plan.facts, name) for plan in plans for name in names):
        raise UserError(
            f"{path} has none of these settings and stages; settings are {', '.join(SETTINGS)}"
        )
    return baseline


def _run(plan: _Plan, repeat: Repeat, names: list[str]) -> Run:
    arguments = arguments_of(plan.engine, plan.request)
    with load(**plan.engine) as pipe:
        measured = Stages(pipe, repeat, _given(plan.request), arguments)
        measurements = [_measure(measured, name) for name in names]
    peak = generate(arguments)["peak_memory_mb"]
    return Run({**plan.facts, "peak_memory_mb": peak}, measurements)


def _measure(measured: Stages, name: str) -> Measurement:
    click.echo(f"measuring {name} …", err=True)
    return measured(name)


def _given(request: dict[str, Any]) -> dict[str, Any]:
    return {"seed": 0, **{name: value for name, value in request.items() if value is not None}}


def _choose(chosen: str | None) -> list[str]:
    wanted = [name.strip() for name in chosen.split(",")] if chosen else list(STAGES)
    for name in wanted:
        if name not in STAGES:
            raise UserError(unknown("stage", name, STAGES))
    return wanted


def arguments_of(engine: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """The same request, as arguments of `mutoscope generate`."""
    values = {**engine, **request}
    loras = values.pop("loras")
    if values.get("weight_budget") is not None:
        values["weight_budget"] = f"{values['weight_budget'] / (1 << 20):.6f}MB"
    width, height = values.pop("width"), values.pop("height")
    guided = values.pop("guidance_interval", None)
    values["size"] = width and f"{width}x{height}"
    given = [(flag(name), value) for name, value in values.items() if value is not None]
    if guided is not None:
        given.append(("--guidance-interval", interval(guided)))
    given += [("--lora", each) for path, scale in loras.items() for each in _scaled(path, scale)]
    return [part for name, value in given for part in _argument(name, value)]


def _scaled(path: str, scale: Scale) -> list[str]:
    """A LoRA as `--lora` takes it, once for each denoiser that is named."""
    if not isinstance(scale, Mapping):
        return [f"{path}:{scale}"]
    return [f"{path}:{each}@{denoiser}" for denoiser, each in scale.items()]


def _argument(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name] if value else []
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return [name, str(value)]
