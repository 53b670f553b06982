"""A placement as the commands that bring it about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.manifest import DECODERS, DENOISERS, TEXT_ENCODER
from ..runtime.conditioning import graphs_for_image
from ..runtime.plan import ONNXRUNTIME, TENSORRT, Placement, Plan
from .options import flag


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as `generate` takes them; `None` is left out, several values are repeated."""
    found = []
    for option, value in options.items():
        if value is None:
            continue
        if isinstance(value, tuple):
            found += [part for each in value for part in (flag(option), each)]
            continue
        found.append(flag(option))
        if option == "weight_budget":
            found.append(f"{value >> 20}MB")
        elif value is not True:
            found.append(f"{value:g}" if isinstance(value, float) else str(value))
    return found


def generate(plan: Plan, placed: Placement, bundle: str, asked: Mapping[str, Any]) -> list[str]:
    """The command that makes the clip.

    Args:
        plan: of the clip.
        placed: where it is to run.
        bundle: its path.
        asked: of `generate`, beside the size and the number of frames.
    """
    settings = plan.settings
    given = {
        "bundle": bundle,
        "image": None if settings.image is None else "IMAGE",
        "size": f"{settings.width}x{settings.height}",
        **asked,
        "frames": settings.frames,
        "backend": placed.backend,
        **placed.options,
    }
    return ["mutoscope", "generate", "PROMPT", *arguments(given)]


def builds(plan: Plan, placed: Placement, bundle: str) -> list[list[str]]:
    """The commands that build the engines it needs, one for each profile and kind of engine."""
    if placed.backend != TENSORRT:
        return []
    groups: dict[tuple[str, bool], list[str]] = {}
    for stage, graphs in _graphs(plan, placed).items():
        if graphs:
            key = _profile(plan, placed, stage), placed.streamed(stage)
            groups.setdefault(key, []).extend(graphs)
    sequential = ["--sequential-guidance"] if "sequential_guidance" in placed.options else []
    refit = ["--refit"] if plan.stages.loras else []
    return [
        [
            *("mutoscope", "build", bundle, "--backend", placed.backend, "--profile", profile),
            *("--graphs", ",".join(names)),
            *(["--weight-streaming"] if streamed else []),
            *([*sequential, *refit] if DENOISERS[0] in names else []),
        ]
        for (profile, streamed), names in groups.items()
    ]


def quantize(plan: Plan, placed: Placement, precision: str, bundle: str) -> list[str]:
    """The command that makes a bundle of another precision for an estimated placement."""
    for_cpu = placed.backend == ONNXRUNTIME and plan.precision != "fp32"
    given = {"precision": precision, "backend": placed.backend}
    text = {measure.option: measure.value for measure in placed.quantized}
    accepted = {"accept_quality": True} if placed.beyond_gate else {}
    source = "FP32-BUNDLE" if for_cpu else bundle
    return ["mutoscope", "quantize", source, "OUT", *arguments({**given, **text, **accepted})]


def _graphs(plan: Plan, placed: Placement) -> dict[str, list[str]]:
    """What has to be built for each stage."""
    manifest, settings = plan.stages.manifest, plan.settings
    image = () if settings.image is None else graphs_for_image(manifest, settings.frames)
    quantization = manifest.quantization
    on_cpu = quantization is not None and quantization.backend_of(TEXT_ENCODER) == ONNXRUNTIME
    return {
        "text": [] if on_cpu or "text_backend" in placed.options else [TEXT_ENCODER],
        "image": list(image),
        "denoiser": [name for name in DENOISERS if name in manifest.graphs],
        "vae": list(DECODERS[: 1 if settings.frames == 1 else 2]),
    }


def _profile(plan: Plan, placed: Placement, stage: str) -> str:
    """The clip that a stage's engines are for; of the VAE perhaps a tile of it."""
    settings = plan.settings
    width, height = settings.width, settings.height
    tile = int(placed.options.get("vae_tile", settings.vae_tile))
    if stage == "vae" and tile:
        width, height = min(width, tile), min(height, tile)
    return f"{width}x{height}x{settings.frames}"
