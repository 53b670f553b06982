"""Whole clips on a backend: how long, how near to others, what is idle, what the host does."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from ..engine import Tensor
from ..engine.memory import peak_memory_mb
from ..engine.profiles import LatentSize
from ..kernels.device import Stream
from ..kernels.noise import standard_normal
from ..runtime.arithmetic import arithmetic_on
from ..runtime.guidance import fits_batched
from ..runtime.output import Output
from ..runtime.pipeline import Pipeline
from ..runtime.record import Record
from ..runtime.request import Request, settle
from .energy import joules_a_run
from .gpu_engines import GB, Case, decoder_calls
from .gpu_times import timed
from .quality.similarity import similarity
from .suite import SkippedError

PROMPT = "a green star moves in a circle on a navy background"
SMALL: dict[str, Any] = {"width": 48, "height": 32, "frames": 5, "steps": 2}
SEED = 5
CLIPS = 3
STAGES = ("text", "denoise", "vae")
"""Of a clip's record: what it is to be made of."""
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


def measure(
    backend: str, request: dict[str, Any], bundle: Path | None = None, *, clips: int = CLIPS
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Make clips; their frames, and what they took.

    Args:
        backend: its name.
        request: fields of `Request`.
        bundle: by default the embedded one.
        clips: after a first one, which goes to a file; as many stay in memory as go to one.

    Returns:
        uint8 (frames, height, width, 3); then medians: seconds in all, of denoising and of
        decoding; milliseconds of a step, of its denoiser runs alone, of what is left of it (kernels
        and the host's share) and of the host's own work; seconds of the clip's engines alone (its
        prompts are known by then), and the shares of the whole clip that lie outside of them, and
        outside of text, denoiser and VAE; how many steps of a clip were launched as one CUDA
        graph, and of how many steps in all the medians are: where any were launched so, of those
        alone; `file`, of clips that are encoded as well; joules of a clip; memory in GB (2^30
        bytes).

    Raises:
        UserError: what the backend needs is not here.
    """
    from .. import load

    options = dict(request)
    prompt = options.pop("prompt")
    with (
        load(bundle, backend=backend, preset="full") as pipe,
        tempfile.TemporaryDirectory() as folder,
    ):
        stream = pipe.sessions.stream
        before = stream.device.memory_in_use() if stream else 0
        file = Output(Path(folder) / "clip.mp4", overwrite=True)
        began = time.perf_counter()
        pipe(prompt, output=file, **options)
        first = time.perf_counter() - began
        *_, last = whole = [pipe(prompt, **options) for _ in range(clips)]
        made = [clip.record for clip in whole]
        recorded = made[-1].recorded_steps
        steps = [s for record in made for s in chosen(record.step_seconds, recorded)]
        step = 1e3 * statistics.median(steps)
        run = _denoiser_ms(pipe, options)
        engines = (options["steps"] * run + _decoder_ms(pipe, options)) / 1e3
        host = chosen(host_seconds(pipe, prompt, options), recorded)
        written = [pipe(prompt, output=file, **options).record for _ in range(clips)]
        joules = joules_a_run(lambda: pipe(prompt, **options))
        used = stream.device.memory_in_use() - before if stream else None
    seconds = _median(made, "total")
    return last.frames, {
        "first_clip_seconds": round(first, 4),
        "seconds": seconds,
        "denoise_seconds": _median(made, "denoise"),
        "vae_seconds": _median(made, "vae"),
        "step_ms": round(step, 4),
        "denoiser_ms": run,
        "rest_of_step_ms": round(step - run, 4),
        "host_step_ms": round(1e3 * statistics.median(host), 4),
        "engines_seconds": round(engines, 4),
        "outside_engines_share": round(1 - engines / seconds, 4),
        "outside_stages_share": _outside(made),
        "recorded_steps": len(recorded),
        "timed_steps": len(steps),
        "file": _file(written),
        "joules": joules,
        **({"memory_gb": round(used / GB, 3)} if used is not None else {}),
        "host_peak_memory_gb": round(peak_memory_mb() / 1024, 3),
    }


def chosen(seconds: Sequence[float], recorded: Sequence[int]) -> list[float]:
    """Those of the steps that were launched as a whole, by their indices; of all where none was."""
    return [seconds[index] for index in recorded] or list(seconds)


def outside_stages(record: Record) -> float:
    """The share of a clip's time that is none of its text's, its denoiser's and its VAE's."""
    return 1 - sum(record.seconds[stage] for stage in STAGES) / record.seconds["total"]


def host_seconds(pipe: Pipeline, prompt: str, options: dict[str, Any]) -> list[float]:
    """What the host does in each step of a clip beside waiting for the device."""
    steps = pipe.stream(prompt, **options)
    spent: list[float] = []
    with _watched(pipe.sessions.stream) as waits:
        for step in steps:
            spent.append(step.seconds - waits.seconds)
            waits.seconds = 0.0
    return spent


@dataclass
class _Waits:
    """How long the host has waited."""

    seconds: float = 0.0


@contextmanager
def _watched(stream: Stream | None) -> Iterator[_Waits]:
    """What is waited for a stream, while it lasts."""
    waits = _Waits()
    if stream is None:
        yield waits
        return
    wait = stream.synchronize

    def synchronize() -> None:
        began = time.perf_counter()
        wait()
        waits.seconds += time.perf_counter() - began

    with mock.patch.object(stream, "synchronize", synchronize):
        yield waits


def compare(frames: NDArray[np.uint8], reference: Path) -> dict[str, Any]:
    """PSNR in dB and SSIM to the frames that another part kept; says so where they are missing."""
    if not reference.exists():
        return {"compared": f"no: {reference.stem} kept no frames"}
    alike = similarity(frames, np.load(reference))
    psnr = round(alike.psnr, 2) if alike.mse else "the same frames"
    return {"psnr_db": psnr, "ssim": round(alike.ssim, 6)}


def _median(records: list[Record], stage: str) -> float:
    return round(statistics.median(record.seconds[stage] for record in records), 4)


def _outside(records: list[Record]) -> float:
    return round(statistics.median(map(outside_stages, records)), 4)


def _file(records: list[Record]) -> dict[str, Any]:
    """Of clips that went to a file: who encoded what, and medians; `encode`, of what was left."""
    *_, last = written = [record.output for record in records]
    spent = statistics.median(output["encoder_seconds"] for output in written)
    return {
        "encoder": last["encoder"],
        "frames": last["frames"],
        "seconds": _median(records, "total"),
        "encode_seconds": _median(records, "encode"),
        "encoder_seconds": round(spent, 4),
        "outside_stages_share": _outside(records),
    }


def _denoiser_ms(pipe: Pipeline, options: dict[str, Any]) -> float:
    """Both predictions of a step, in one run where the loop does so, among many in a row."""
    shape = options["latents"].shape
    memory = arithmetic_on(pipe.sessions.stream).memory
    batched = fits_batched(pipe.bundle.manifest, shape, memory)
    feeds = Case(pipe.bundle.path, LatentSize(*shape[2:]), 2 if batched else 1).feeds(pipe.bundle)
    times, _ = timed(pipe.sessions("denoiser"), feeds, pipe.sessions.stream)
    ms: float = times["run_ms"]
    return ms if batched else 2 * ms


def _decoder_ms(pipe: Pipeline, options: dict[str, Any]) -> float:
    """All latent frames, each among many like it in a row."""
    size = LatentSize(*options["latents"].shape[2:])

    def run(
        name: str, feeds: Mapping[str, Tensor], *, over: bool
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return timed(pipe.sessions(name), feeds, pipe.sessions.stream, over=over)

    latents = Case(pipe.bundle.path, size).latent_frame(pipe.bundle)
    first, later = decoder_calls(run, latents).values()
    ms: float = first["run_ms"] + (size.frames - 1) * later["run_ms"]
    return ms
