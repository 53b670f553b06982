"""Options that several subcommands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..engine.lora import Scale
from ..errors import UserError

SIDE = re.compile("[0-9]{1,6}")
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
AMOUNT = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?) ?(?P<unit>[KMGT])i?B?", re.IGNORECASE)
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
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


class Interval(click.ParamType[tuple[float, float]]):
    """START:STOP, two shares of the whole."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Both numbers."""
        start, _, stop = str(value).partition(":")
        try:
            return float(start), float(stop)
        except ValueError:
            self.fail(f"{value!r} is not START:STOP, e.g. 0:0.6", param, ctx)


class Several(click.ParamType[tuple[Any, ...]]):
    """Values of another type with commas between them."""

    def __init__(self, each: Any) -> None:
        self._each = click.types.convert_type(each)
        self.name = self._each.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Each value."""
        return tuple(self._each.convert(part.strip(), param, ctx) for part in str(value).split(","))


class ScaledPath(click.ParamType[tuple[str, float, str | None]]):
    """PATH or PATH:SCALE, and perhaps @DENOISER after it."""

    name = "PATH[:SCALE][@DENOISER]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float, str | None]:
        """The path, the scale, which is 1 where none is given, and the denoiser that is named."""
        scaled, _, named = str(value).rpartition("@")
        denoiser = named if scaled and NAME.fullmatch(named) else None
        whole = scaled if denoiser else str(value)
        path, colon, scale = whole.rpartition(":")
        if not colon or "/" in scale:
            return whole, 1.0, denoiser
        try:
            return path, float(scale), denoiser
        except ValueError:
            self.fail(f"{value!r}: {scale!r} is not a scale, e.g. {path}:0.8", param, ctx)


def scaled_path(lora: tuple[str, float, str | None]) -> str:
    """The inverse of `ScaledPath`."""
    path, scale, denoiser = lora
    return f"{path}:{scale:g}" + (f"@{denoiser}" if denoiser else "")


class Amount(click.ParamType[int]):
    """An amount of memory, 12GB; as memory is sold, a GB is 2^30 bytes."""

    name = "GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In bytes."""
        match = AMOUNT.fullmatch(str(value).strip())
        if not match or not float(match["number"]):
            self.fail(f"{value!r} is not an amount of memory, e.g. 12GB", param, ctx)
        return int(float(match["number"]) * (1 << UNITS[match["unit"].upper()]))


Option = tuple[tuple[str, ...], dict[str, Any]]


def _option(*names: str, **about: Any) -> Option:
    return names, about


REQUEST = [
    _option(
        "--size",
        type=Size(),
        help="Width and height in pixels, e.g. 64x96; multiples of 16 for Wan.",
    ),
    _option("--frames", type=int, help="How many; 4n+1."),
    _option("--fps", type=float, help="Frames a second."),
    _option("--steps", type=int, help="Denoising steps."),
    _option("--guidance", "guidance_scale", type=float, help="Guidance scale; 1 switches it off."),
    _option(
        "--guidance-2",
        "guidance_scale_2",
        type=float,
        help="That of the second denoiser, of bundles with two; by default the same.",
    ),
    _option(
        "--guidance-method",
        metavar="NAME",
        help="cfg, cfg-zero (CFG-Zero*) or apg (adaptive projected guidance); by default cfg.",
    ),
    _option(
        "--zero-init-steps",
        type=int,
        help="With cfg-zero: the first steps that leave the noise as it is; by default 1.",
    ),
    _option(
        "--apg-eta",
        type=float,
        help="With apg: how much of what only makes predictions larger is kept, 0 to 1; by default "
        "0.",
    ),
    _option(
        "--apg-norm-threshold",
        type=float,
        help="With apg: the greatest norm of what guidance adds; by default 0: any.",
    ),
    _option(
        "--guidance-rescale",
        type=float,
        help="How far guided predictions get the spread of those under the prompt alone, 0 to 1.",
    ),
    _option(
        "--guidance-interval",
        type=Interval(),
        help="The share of the steps that is guided, e.g. 0:0.6; by default 0:1.",
    ),
    _option(
        "--sequential-guidance",
        is_flag=True,
        default=None,
        help="The two predictions of a guided step one after the other: less memory.",
    ),
    _option(
        "--step-cache",
        type=float,
        help="Spare steps that would change the velocity by less than this, e.g. 0.2.",
    ),
    _option("--negative", "negative_prompt", metavar="TEXT", help="What to lead away from."),
    _option("--seed", type=int, help="Of the initial noise; by default another each time."),
    _option("--scheduler", metavar="NAME", help="euler, unipc or dpmpp-2m."),
    _option("--shift", type=float, help="Of the sigmas; more spends more steps on noise."),
    _option(
        "--shift-terminal",
        type=float,
        metavar="SIGMA",
        help="Euler's last sigma before 0, e.g. 0.4 for denoisers of four steps.",
    ),
    _option(
        "--sigmas",
        type=Several(float),
        metavar="SIGMA,...",
        help="Euler's own before the shift, one a step, e.g. 1,0.75,0.5,0.25.",
    ),
    _option(
        "--vae-tile",
        type=int,
        metavar="PIXELS",
        help="Decode frames in tiles of this side: less memory, for large frames.",
    ),
    _option("--image", metavar="FILE", help="The first frame: a PNG, JPEG or WebP."),
]

ENGINE = [
    _option("--bundle", metavar="DIR", help="An exported model; by default the embedded one."),
    _option("--backend", default="onnxruntime", show_default=True, help="Runs the engines."),
    _option(
        "--text-backend",
        help="Runs the text encoder, if another one: onnxruntime keeps it on the CPU.",
    ),
    _option("--precision", help="What the bundle must have, e.g. fp32."),
    _option(
        "--preset",
        metavar="NAME",
        help="How clips are made, e.g. fast, of the embedded bundle, in four steps with a LoRA, or "
        "full, of every bundle, in all steps. By default the bundle's first.",
    ),
    _option("--threads", type=int, help="CPU threads; by default all cores."),
    _option(
        "--weight-budget",
        type=Amount(),
        help="GPU memory for the weights of an engine built with --weight-streaming; the others "
        "are read from the host's as they are needed. By default TensorRT decides.",
    ),
    _option(
        "--int8-attention",
        is_flag=True,
        help="Scores of the denoiser's attention in int8; with --backend tensorrt-rtx or "
        "onnxruntime-cuda.",
    ),
    _option(
        "--lora",
        "loras",
        type=ScaledPath(),
        multiple=True,
        help="Added to the denoiser's weights: a file, or a name of the bundle's own, as outlines "
        "of the embedded one, e.g. outlines:0.8; may be repeated. Of two denoisers to both, or to "
        "one: low.safetensors:1@denoiser_2.",
    ),
]

SWEPT = (
    "bundle", "precision", "backend", "preset", "scheduler", "shift", "shift_terminal", "steps",
    "guidance_scale", "guidance_method", "zero_init_steps", "apg_eta", "apg_norm_threshold",
    "guidance_interval", "step_cache",
)  # fmt: skip
"""What a sweep can take several values of; the first changes slowest."""


TIMED = (*SWEPT, "size", "frames", "threads")
"""What a sweep of times can take several values of."""


RENAMED = {
    "guidance_scale": "guidance", "guidance_scale_2": "guidance-2", "loras": "lora",
    "negative_prompt": "negative",
}  # fmt: skip
"""Options whose flags are not their names in Python."""


def flag(option: str) -> str:
    """The flag of an option, by its name in Python."""
    return f"--{RENAMED.get(option, option).replace('_', '-')}"


def request_options(function: Function) -> Function:
    """What to make: the fields of `Request`, but for the prompt."""
    return _with(function, REQUEST)


def engine_options(function: Function) -> Function:
    """What to make it with: the arguments of `load`."""
    return _with(function, ENGINE)


def sweep_options(function: Function) -> Function:
    """Both; those of `TIMED` give a tuple of values, with commas between them or given again."""
    return _with(function, [_swept(option) for option in [*REQUEST, *ENGINE]])


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the arguments of `load` and of a request out of a command's options."""
    names = (
        "bundle", "backend", "text_backend", "precision", "preset", "threads", "weight_budget",
        "int8_attention",
    )  # fmt: skip
    engine = {name: options.pop(name) for name in names}
    engine["loras"] = by_file(options.pop("loras"))
    width, height = options.pop("size") or (None, None)
    fields = (
        "frames",
        "fps",
        "steps",
        "guidance_scale",
        "guidance_scale_2",
        "guidance_method",
        "zero_init_steps",
        "apg_eta",
        "apg_norm_threshold",
        "guidance_rescale",
        "guidance_interval",
        "sequential_guidance",
        "step_cache",
        "negative_prompt",
        "seed",
        "scheduler",
        "shift",
        "shift_terminal",
        "sigmas",
        "vae_tile",
        "image",
    )
    request = {name: options.pop(name) for name in fields}
    return engine, {"width": width, "height": height, **request}


def by_file(
    loras: tuple[tuple[str, float, str | None], ...],
) -> dict[str | os.PathLike[str], Scale]:
    """LoRAs as `load` takes them."""
    scales: dict[str | os.PathLike[str], Scale] = {}
    for path, scale, denoiser in loras:
        known = scales.get(path, {})
        if denoiser is None and path not in scales:
            scales[path] = scale
        elif denoiser is not None and isinstance(known, dict) and denoiser not in known:
            scales[path] = {**known, denoiser: scale}
        else:
            raise UserError(f"--lora names {path} twice; add up the scales")
    return scales


def _with(function: Function, options: list[Option]) -> Function:
    for names, about in reversed(options):
        function = click.option(*names, **about)(function)
    return function


def _swept(option: Option) -> Option:
    names, about = option
    if names[-1].lstrip("-").replace("-", "_") not in TIMED:
        return option
    several: dict[str, Any] = {
        "type": Several(about.get("type", str)),
        "multiple": True,
        "callback": lambda ctx, param, values: tuple(value for part in values for value in part),
    }
    if "default" in about:
        several["default"] = [about["default"]]
    return names, {**about, **several}
