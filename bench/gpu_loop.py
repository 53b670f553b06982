"""Whole clips of the embedded model on a backend: how long, how near to others, what is idle."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.memory import peak_memory_mb
from ..engine.profiles import LatentSize
from ..kernels.noise import standard_normal
from ..runtime.clip import Clip
from ..runtime.pipeline import Pipeline
from ..runtime.request import Request, settle
from .gpu_engines import GB, Case, timed
from .quality.similarity import similarity
from .suite import SkippedError

PROMPT = "a green star moves in a circle on a navy background"
SMALL: dict[str, Any] = {"width": 48, "height": 32, "frames": 5, "steps": 2}
SEED = 5
CLIPS = 3
CHECKPOINT = Path(__file__).parents[1] / "tests" / "data" / "mini-wan"


def request(*, small: bool) -> dict[str, Any]:
    """The embedded model's default one, with its noise; `small` is a tiny one."""
    from .. import load

    with load(backend="null", preset="full") as pipe:
        settings = settle(Request.of(PROMPT, SMALL if small else {}), pipe.bundle.manifest)
    names = ("width", "height", "frames", "steps", "guidance_scale")
    return {
        "prompt": PROMPT,
        "negative_prompt": "",
        **{name: getattr(settings, name) for name in names},
        "latents": standard_normal(SEED, settings.latent_shape),
    }


def embedded_bundle() -> Path:
    """Where the embedded model lies."""
    from .. import load

    with load(backend="null", preset="full") as pipe:
        return pipe.bundle.path


def embedded_tokens() -> int:
    """What the embedded model's prompts are padded or cut to."""
    from .. import load

    with load(backend="null", preset="full") as pipe:
        return pipe.bundle.manifest.text.max_tokens


def embedded_checkpoint() -> Path:
    """Where what it was exported from lies.

    Raises:
        SkippedError: this is an installed package, without it.
    """
    if not CHECKPOINT.exists():
        raise SkippedError("the embedded model's checkpoint is in the source tree alone")
    return CHECKPOINT


def measure(backend: str, request: dict[str, Any]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Make clips; their frames, and what they took.

    Returns:
        uint8 (frames, height, width, 3); then medians of three clips after one: seconds in all, of
        denoising and of decoding; milliseconds of a step, of its denoiser runs alone, and what is
        left of it: kernels, and the host's share; how many steps of a clip were launched as one
        CUDA graph; memory in GB (2^30 bytes).

    Raises:
        UserError: what the backend needs is not here.
    """
    from .. import load

    options = dict(request)
    prompt = options.pop("prompt")
    with load(backend=backend, preset="full") as pipe:
        stream = pipe.sessions.stream
        before = stream.device.memory_in_use() if stream else 0
        began = time.perf_counter()
        pipe(prompt, **options)
        first = time.perf_counter() - began
        clips = [pipe(prompt, **options) for _ in range(CLIPS)]
        step = 1e3 * statistics.median(s for clip in clips for s in clip.record.step_seconds)
        run = _denoiser_ms(pipe, options)
        used = stream.device.memory_in_use() - before if stream else None
    return clips[-1].frames, {
        "first_clip_seconds": round(first, 4),
        "seconds": _median(clips, "total"),
        "denoise_seconds": _median(clips, "denoise"),
        "vae_seconds": _median(clips, "vae"),
        "step_ms": round(step, 4),
        "denoiser_ms": run,
        "rest_of_step_ms": round(step - run, 4),
        "recorded_steps": len(clips[-1].record.recorded_steps),
        **({"memory_gb": round(used / GB, 3)} if used is not None else {}),
        "host_peak_memory_gb": round(peak_memory_mb() / 1024, 3),
    }


def compare(frames: NDArray[np.uint8], reference: Path) -> dict[str, Any]:
    """PSNR in dB and SSIM to the frames that another part kept; says so where they are missing."""
    if not reference.exists():
        return {"compared": f"no: {reference.stem} kept no frames"}
    alike = similarity(frames, np.load(reference))
    psnr = round(alike.psnr, 2) if alike.mse else "the same frames"
    return {"psnr_db": psnr, "ssim": round(alike.ssim, 6)}


def _median(clips: list[Clip], stage: str) -> float:
    return round(statistics.median(clip.record.seconds[stage] for clip in clips), 4)


def _denoiser_ms(pipe: Pipeline, options: dict[str, Any]) -> float:
    """Both predictions of a step, in one run, among many in a row."""
    size = LatentSize(*options["latents"].shape[2:])
    feeds = Case(pipe.bundle.path, size, batch=2).feeds(pipe.bundle)
    times, _ = timed(pipe.sessions("denoiser"), feeds, pipe.sessions.stream)
    return times["run_ms"]
