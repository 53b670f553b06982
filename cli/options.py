"""Options that several subcommands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
    click.option("--image", metavar="FILE", help="The first frame: a PNG, JPEG or WebP."),
]

ENGINE: list[Callable[[Any], Any]] = [
    click.option("--bundle", metavar="DIR", help="An exported model; by default the embedded one."),
    click.option("--backend", default="onnxruntime", show_default=True, help="Runs the engines."),
    click.option("--precision", help="What the bundle must have, e.g. fp32."),
    click.option("--threads", type=int, help="CPU threads; by default all cores."),
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
        "image",
    )
    request = {name: options.pop(name) for name in names}
    return engine, {"width": width, "height": height, **request}


def _with(function: Function, options: list[Callable[[Any], Any]]) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
