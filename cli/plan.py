"""`mutoscope plan`: the memory and disk that a clip will take, and whether it fits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from ..engine import Bundle
from ..engine.planner import Needs
from ..errors import UserError
from ..runtime.arithmetic import HostArithmetic
from ..runtime.plan import ONNXRUNTIME, Machine, Plan, advice, make_plan
from ..runtime.request import Request, settle
from .options import Size

ANY_PROMPT = "any"
AMOUNT = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?) ?(?P<unit>[KMGT])i?B?", re.IGNORECASE)
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
MB = 1 << 20


class Amount(click.ParamType[int]):
    """An amount of memory, 12GB; as memory is sold, a GB is 2^30 bytes."""

    name = "GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In bytes."""
        match = AMOUNT.fullmatch(str(value).strip())
        if not match or not float(match["number"]):
            self.fail(f"{value!r} is not an amount of memory, e.g. 12GB", param, ctx)
        return int(float(match["number"]) * (1 << UNITS[match["unit"].upper()]))


@click.command(epilog="Example: mutoscope plan ./wan-1.3b --size 832x480 --frames 81 --vram 12GB")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--size", type=Size(), help="Width and height in pixels, e.g. 832x480.")
@click.option("--frames", type=int, help="How many; 4n+1.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="Guidance scale; 1 switches it off.")
@click.option("--vae-tile", type=int, metavar="PIXELS", help="Side of the tiles of the VAE.")
@click.option("--ram", type=Amount(), help="The machine's memory; by default this one's.")
@click.option("--vram", type=Amount(), help="The GPU's memory; without it none is planned for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    *,
    size: tuple[int, int] | None,
    ram: int | None,
    vram: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Tell what a clip of BUNDLE will take; exit with 2 where it fits nowhere.

    Told from the graphs: nothing is run, no weights are loaded. What it says of a GPU is an
    estimate that no GPU has confirmed.
    """
    opened = Bundle.open(bundle)
    width, height = size or (None, None)
    request = Request(prompt=ANY_PROMPT, width=width, height=height, **options)
    machine = Machine(ram or HostArithmetic().memory, vram)
    plan = make_plan(opened, settle(request, opened.manifest), machine)
    click.echo(json.dumps(facts(plan)) if as_json else "\n".join(lines(plan)))
    if plan.backend is None:
        raise UserError(f"{_shortage(plan)}; what would help: {', or '.join(advice(plan))}")


def facts(plan: Plan) -> dict[str, Any]:
    """All of a plan, in MB (2^20 bytes)."""
    settings, machine = plan.settings, plan.machine
    return {
        "width": settings.width,
        "height": settings.height,
        "frames": settings.frames,
        "precision": plan.precision,
        "guidance": _guidance(plan),
        "graphs": {name: _graph(needs) for name, needs in plan.graphs.items()},
        "ram_mb": _mb(plan.ram),
        "ram_kept_open_mb": _mb(plan.ram_kept_open),
        "vram_mb": _mb(plan.vram),
        "bundle_mb": _mb(plan.disk),
        "engines_mb": _mb(plan.engines),
        "build_ram_mb": _mb(plan.build_ram),
        "machine": {"ram_mb": _mb(machine.ram), "vram_mb": machine.vram and _mb(machine.vram)},
        "vram_without_text_mb": _mb(plan.vram_without_text),
        "backend": plan.backend,
        "text_backend": plan.text_backend,
        "advice": [] if plan.backend else advice(plan),
    }


def lines(plan: Plan) -> list[str]:
    """The same for a person."""
    settings, rows = plan.settings, facts(plan)["graphs"]
    head = ("graph, MB", "weights", "working", "weights (GPU)", "working (GPU)")
    table = [head, *((name, *map(str, row.values())) for name, row in rows.items())]
    clip = f"{settings.width}x{settings.height}, {settings.frames} frames"
    engines, build = _mb(plan.engines), _mb(plan.build_ram)
    return [
        f"{clip}, {plan.precision}, guidance {_guidance(plan)}",
        *(f"{row[0]:<20}" + "".join(f"{cell:>15}" for cell in row[1:]) for row in table),
        f"onnxruntime, CPU: {_mb(plan.ram)} MB of {_mb(plan.machine.ram)} MB",
        f"onnxruntime, CPU, engines kept open for more clips: {_mb(plan.ram_kept_open)} MB",
        f"tensorrt-rtx, GPU: {_mb(plan.vram)} MB" + _of_the_gpu(plan) + ", an estimate",
        f"the same, text encoder on the CPU: {_mb(plan.vram_without_text)} MB",
        f"disk: bundle {_mb(plan.disk)} MB, TensorRT engines about {engines} MB",
        f"memory to build those: roughly {build} MB",
        _verdict(plan),
    ]


def _verdict(plan: Plan) -> str:
    if plan.backend is None:
        return "fits nowhere"
    if plan.backend == ONNXRUNTIME:
        return "fits: --backend onnxruntime"
    text = f" --text-backend {plan.text_backend}" if plan.text_backend else ""
    return f"fits: mutoscope build, then --backend tensorrt-rtx{text} (which no GPU has run yet)"


def _guidance(plan: Plan) -> str:
    if not plan.settings.guided:
        return "off"
    return "in one batch" if plan.batched else "one prediction after the other"


def _shortage(plan: Plan) -> str:
    text = f"the clip needs {_mb(plan.ram)} MB on the CPU, {_mb(plan.machine.ram)} MB are there"
    if plan.machine.vram is not None:
        text += f", and {_mb(plan.vram)} MB on the GPU, {_mb(plan.machine.vram)} MB are there"
    return text


def _of_the_gpu(plan: Plan) -> str:
    return "" if plan.machine.vram is None else f" of {_mb(plan.machine.vram)} MB"


def _graph(needs: Needs) -> dict[str, float]:
    return {
        "weights_mb": _mb(needs.cpu.weights),
        "working_mb": _mb(needs.cpu.arena),
        "gpu_weights_mb": _mb(needs.gpu.weights),
        "gpu_working_mb": _mb(needs.gpu.live),
    }


def _mb(amount: int) -> float:
    return round(amount / MB, 1)
