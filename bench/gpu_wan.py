"""Wan 1.3B's layout with random weights: our backends, and diffusers on the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..engine import Bundle
from ..engine.manifest import DECODERS, TEXT_ENCODER
from ..engine.open import INT8_ATTENTION
from ..engine.profiles import LatentSize
from ..kernels.noise import standard_normal
from .gpu_engines import (
    GPU_BACKENDS,
    Case,
    Measured,
    open_stream,
    predict,
    text_encoder,
    vae_decoder,
)
from .gpu_placement import placed
from .gpu_setting import BACKENDS, Setting, needs_backend, torch_device
from .suite import Figures, SkippedError
from .wan_inputs import beside, keep
from .wan_layout import Size, operations, text_operations

GRAPHS = (TEXT_ENCODER, "denoiser", *DECODERS)
STEPS = 6
"""Of a clip: all but the first two can be launched as one graph."""
GUIDANCE, SEED = 5.0, 5


def export(setting: Setting) -> Figures:
    """A bundle of Wan with random weights, in fp16, for the parts after it; needs no GPU.

    Raises:
        SkippedError: an earlier run has left it.
    """
    if setting.bundle.exists():
        raise SkippedError(f"{setting.bundle} is there already")
    from .gpu_loop import embedded_checkpoint
    from .peers import wan_checkpoint
    from .peers.diffusers_wan import vae_operations

    checkpoint, base = setting.work / "wan-checkpoint", setting.vae_base
    shutil.rmtree(checkpoint, ignore_errors=True)  # of a run that was cut short
    wan_checkpoint.write_whole(
        checkpoint, embedded_checkpoint(), setting.layout, setting.text, base=base
    )
    counts = {size.name: vae_operations(size, base=base) for size in setting.sizes}
    setting.vae_operations.write_text(json.dumps(counts))
    wan_checkpoint.export(checkpoint, setting.bundle, GRAPHS, "fp16")
    megabytes = sum(path.stat().st_size for path in setting.bundle.iterdir()) / 1e6
    return {"megabytes": round(megabytes, 1)}


def wan(setting: Setting, *, backend: str, index: int, int8_attention: bool = False) -> Figures:
    """The denoiser: one prediction."""
    case, size = _case(setting, backend, index, int8_attention=int8_attention)
    figures, values = predict(backend, case)
    error = beside(values, setting.prediction(size))
    rate = _rate(operations(setting.layout, size.tokens), figures)
    nodes = {} if index else placed(backend, case)
    return {"size": size.name, "tokens": size.tokens, **figures, **error, **rate, **nodes}


def text(setting: Setting, *, backend: str) -> Figures:
    """The text encoder: a prompt of full length."""
    case, _ = _case(setting, backend, 0)
    figures = text_encoder(backend, case)
    layers = {"layers_of_24": setting.text.num_layers}
    return {**layers, **figures, **_rate(text_operations(setting.text, figures["tokens"]), figures)}


def vae(setting: Setting, *, backend: str, index: int) -> Figures:
    """The VAE's decoder: the first latent frame of a clip, and a later one."""
    case, size = _case(setting, backend, index)
    counts = json.loads(setting.vae_operations.read_text())[size.name]
    found = vae_decoder(backend, case)
    calls = {name: {**figures, **_rate(counts[name], figures)} for name, figures in found.items()}
    return {"size": size.name, **calls}


def clip(setting: Setting, *, backend: str, index: int) -> Figures:
    """A clip from prompt to frames, of few steps."""
    case, size = _case(setting, backend, index)
    from .gpu_loop import PROMPT, measure

    engines = Measured(backend, Bundle.open(case.bundle), case.size, open_stream(backend))
    for name in GRAPHS:
        engines.build(name)
    channels = engines.bundle.manifest.latents.channels
    request = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "width": size.width,
        "height": size.height,
        "frames": size.frames,
        "steps": STEPS,
        "scheduler": "euler",
        "guidance_scale": GUIDANCE,
        "latents": standard_normal(SEED, (1, channels, *size.latent)),
    }
    _, figures = measure(backend, request, case.bundle, clips=1)
    return {"size": size.name, "steps": STEPS, **figures}


def diffusers_eager(setting: Setting) -> Figures:
    """Predictions of diffusers' denoiser in bf16 and fp16; keeps those that all are set against."""
    device = torch_device(setting)
    from .peers.diffusers_wan import denoiser, prediction

    for size in setting.sizes:
        precision, values = prediction(device, setting.layout, size)
        keep(values, precision, setting.prediction(size))
    usual = _peers(setting, denoiser(device, setting.layout, setting.sizes))
    halves = _peers(setting, denoiser(device, setting.layout, setting.sizes, precision="fp16"))
    return {name: {**figures, "fp16": halves[name]} for name, figures in usual.items()}


def diffusers_compiled(setting: Setting) -> Figures:
    """The same through `torch.compile`, in bf16."""
    device = torch_device(setting)
    from .peers.diffusers_wan import denoiser

    return _peers(setting, denoiser(device, setting.layout, setting.sizes, compiled=True))


def _peers(setting: Setting, measured: Iterable[tuple[Figures, Any]]) -> Figures:
    """By size, with the error of what came out."""
    sizes = zip(setting.sizes, measured, strict=True)
    return {s.name: {**f, **beside(values, setting.prediction(s))} for s, (f, values) in sizes}


def diffusers_text(setting: Setting) -> Figures:
    """A prompt through transformers' text encoder."""
    device = torch_device(setting)
    from .peers.diffusers_wan import text_encoder as peer

    figures: Figures = peer(device, setting.text)
    return figures


def diffusers_vae(setting: Setting) -> Figures:
    """The first frame, and a whole clip, through diffusers' decoder."""
    device = torch_device(setting)
    from .peers.diffusers_wan import vae as peer

    return {size.name: peer(device, size, base=setting.vae_base) for size in setting.sizes}


def _case(
    setting: Setting, backend: str, index: int, *, int8_attention: bool = False
) -> tuple[Case, Size]:
    """What a backend runs.

    Raises:
        SkippedError: it cannot, or there is no bundle.
    """
    needs_backend(backend)
    if not setting.bundle.exists():
        raise SkippedError("the part export has left no bundle")
    if backend not in GPU_BACKENDS and not setting.small:
        raise SkippedError("models of this size are for GPUs")
    size = setting.sizes[index]
    case = Case(setting.bundle, LatentSize(*size.latent), int8_attention=int8_attention)
    return case, size


def _rate(operations: float, figures: Mapping[str, Any]) -> dict[str, float]:
    return {"tflop_s": round(operations / figures["run_ms"] / 1e9, 3)}


PARTS: Mapping[str, Callable[[Setting], Figures]] = {
    "diffusers-eager": diffusers_eager,
    "export": export,
    **{f"{b}-wan-small": partial(wan, backend=b, index=0) for b in BACKENDS},
    **{f"{b}-wan-large": partial(wan, backend=b, index=1) for b in BACKENDS},
    **{
        f"{b}-wan-{name}-int8-attention": partial(wan, backend=b, index=i, int8_attention=True)
        for b in INT8_ATTENTION
        for i, name in enumerate(("small", "large"))
    },
    "diffusers-vae": diffusers_vae,
    **{f"{b}-vae-small": partial(vae, backend=b, index=0) for b in BACKENDS},
    **{f"{b}-vae-large": partial(vae, backend=b, index=1) for b in BACKENDS},
    **{f"{b}-wan-clip-small": partial(clip, backend=b, index=0) for b in BACKENDS},
    **{f"{b}-wan-clip-large": partial(clip, backend=b, index=1) for b in BACKENDS},
    "diffusers-text": diffusers_text,
    **{f"{b}-text": partial(text, backend=b) for b in BACKENDS},
    "diffusers-compiled": diffusers_compiled,
}
"""By name, in their order: what others need before them, what takes longest last."""
