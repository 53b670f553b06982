"""Options that several subcommands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..errors import UserError

SIDE = re.compile("[0-9]{1,6}")
Function = TypeVar("Function", bound=Callable[..., Any])


class Size(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT in pixels."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Both numbers."""
        width, cross, height = str(value).lower().partition("x")
        if not (cross and SIDE.fullmatch(width) and SIDE.fullmatch(height)):
            self.fail(f"{value!r} is not WIDTHxHEIGHT, e.g. 64x96", param, ctx)
        return int(width), int(height)


class ScaledPath(click.ParamType[tuple[str, float]]):
    """PATH or PATH:SCALE."""

    name = "PATH[:SCALE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """The path and the scale, which is 1 where none is given."""
        path, colon, scale = str(value).rpartition(":")
        if not colon or "/" in scale:
            return str(value), 1.0
        try:
            return path, float(scale)
        except ValueError:
            self.fail(f"{value!r}: {scale!r} is not a scale, e.g. {path}:0.8", param, ctx)


REQUEST: list[Callable[[Any], Any]] = [
    click.option(
        "--size",
        type=Size(),
        help="Width and height in pixels, e.g. 64x96; multiples of 16 for Wan.",
    ),
    click.option("--frames", type=int, help="How many; 4n+1."),
    click.option("--fps", type=float, help="Frames a second."),
    click.option("--steps", type=int, help="Denoising steps."),
    click.option(
        "--guidance", "guidance_scale", type=float, help="Guidance scale; 1 switches it off."
    ),
    click.option("--negative", "negative_prompt", metavar="TEXT", help="What to lead away from."),
    click.option("--seed", type=int, help="Of the initial noise; by default another each time."),
    click.option("--scheduler", metavar="NAME", help="euler, unipc or dpmpp-2m."),
    click.option("--shift", type=float, help="Of the sigmas; more spends more steps on noise."),
]

ENGINE: list[Callable[[Any], Any]] = [
    click.option("--bundle", metavar="DIR", help="An exported model; by default the embedded one."),
    click.option("--backend", default="onnxruntime", show_default=True, help="Runs the engines."),
    click.option("--precision", help="What the bundle must have, e.g. fp32."),
    click.option("--threads", type=int, help="CPU threads; by default all cores."),
    click.option(
        "--lora",
        "loras",
        type=ScaledPath(),
        multiple=True,
        help="Added to the denoiser's weights, e.g. pixel-art.safetensors:0.8; may be repeated.",
    ),
]


def request_options(function: Function) -> Function:
    """What to make: the fields of `Request`, but for the prompt."""
    return _with(function, REQUEST)


def engine_options(function: Function) -> Function:
    """What to make it with: the arguments of `load`."""
    return _with(function, ENGINE)


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the arguments of `load` and of a request out of a command's options."""
    engine = {name: options.pop(name) for name in ("bundle", "backend", "precision", "threads")}
    engine["loras"] = _once(options.pop("loras"))
    width, height = options.pop("size") or (None, None)
    names = (
        "frames",
        "fps",
        "steps",
        "guidance_scale",
        "negative_prompt",
        "seed",
        "scheduler",
        "shift",
    )
    request = {name: options.pop(name) for name in names}
    return engine, {"width": width, "height": height, **request}


def _once(loras: tuple[tuple[str, float], ...]) -> dict[str, float]:
    scales = dict(loras)
    for path in scales:
        if [given for given, _ in loras].count(path) > 1:
            raise UserError(f"--lora names {path} twice; add up the scales")
    return scales


def _with(function: Function, options: list[Callable[[Any], Any]]) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
