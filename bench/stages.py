"""The stages of a clip, each measured alone, then all of them together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MutoscopeError
from ..runtime.arithmetic import Prediction, arithmetic_on
from ..runtime.clip import Clip
from ..runtime.embeddings import encode
from ..runtime.output import Output
from ..runtime.pipeline import Pipeline
from ..runtime.request import Request, settle
from ..runtime.schedulers import get_scheduler
from .measure import Measurement, Repeat

PROMPT = "a red circle moves left to right"
SCHEDULED = 30
"""Steps of the schedule of which one is taken."""


@dataclass
class Stages:
    """Measures a pipeline.

    Attributes:
        pipe: what is measured.
        repeat: how often.
        options: of the request, as `Pipeline` takes them.
        arguments: of the command line, for the cold start of the same request.
    """

    pipe: Pipeline
    repeat: Repeat
    options: dict[str, Any]
    arguments: list[str]

    def __call__(self, stage: str) -> Measurement:
        """Measure one of `STAGES`."""
        return STAGES[stage](self)

    def text(self) -> Measurement:
        """The text encoder, without its cache."""
        tokens = self.pipe.tokenizer(PROMPT)
        session = self.pipe.sessions("text_encoder")
        scope = f"tokens to embedding, {len(tokens.ids)} tokens"
        return self.repeat("text", scope, lambda: encode(session, tokens))

    def denoise_step(self) -> Measurement:
        """One step: denoiser under guidance, and scheduler; none is spared."""
        options = {**self._of_steps(self._steps_needed), "step_cache": None}
        stream = self.pipe.stream(PROMPT, **options)
        steps = iter(stream)
        return self.repeat("denoise step", "one step, guidance included", lambda: next(steps))

    def guidance_and_scheduler(self) -> Measurement:
        """What a step is beside the denoiser, from its second on: guidance, and latents moved."""
        settings = settle(Request.of(PROMPT, self.options), self.pipe.bundle.manifest)
        arithmetic = arithmetic_on(self.pipe.sessions.stream)
        one, other, latents = (arithmetic.noise(i, settings.latent_shape) for i in range(3))
        told = Prediction(one)
        if settings.guided:
            told = Prediction(
                one, other, settings.guidance_scale, settings.guidance_rescale, settings.variant
            )
        scheduler = get_scheduler(settings.scheduler, settings.shift)
        schedule = scheduler.schedule(SCHEDULED)

        def step(index: int, *arrays: Any) -> tuple[Any, ...]:
            weights = scheduler.coefficients(schedule, index, len(arrays) - 1)
            moved = arithmetic.step(weights, arrays[0], told, arrays[1:])
            arithmetic.wait()
            return moved

        first = step(0, latents)
        scope = "two predictions" if settings.guided else "a prediction"
        return self.repeat(
            "guidance+scheduler", f"{scope} to the next latents", lambda: step(1, *first)
        )

    def vae_first(self) -> Measurement:
        """Latents of the first frame to pixels."""
        first = self._denoised[:, :, :1]
        return self.repeat(
            "vae first frame", "1 latent frame to 1 frame", lambda: list(self.pipe.decode(first))
        )

    def vae_next(self) -> Measurement:
        """Latents of a later frame to pixels."""
        latents = np.concatenate([self._denoised[:, :, :1]] * 2, axis=2)

        def second() -> float:
            pieces = self.pipe.decode(latents)
            next(pieces)
            began = time.perf_counter()
            next(pieces)
            return time.perf_counter() - began

        scope = f"1 latent frame to {self.pipe.bundle.manifest.latents.temporal_compression} frames"
        return self.repeat.given("vae next frames", scope, second)

    def encode(self) -> Measurement:
        """Frames to a finished file."""
        clip = self._clip
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            scope = f"{len(clip.frames)} frames to a finished mp4"
            return self.repeat("encode", scope, lambda: clip.save(path, overwrite=True))

    def clip(self) -> Measurement:
        """Prompt to finished file, engines open."""
        with tempfile.TemporaryDirectory() as folder:
            output = Output(Path(folder) / "clip.mp4", overwrite=True)
            return self.repeat(
                "clip",
                "prompt to finished mp4, engines open",
                lambda: self.pipe(PROMPT, output=output, **self.options),
            )

    def rest_of_clip(self) -> Measurement:
        """What the same takes beyond its parts: encoding what they left, and what lies between."""
        with tempfile.TemporaryDirectory() as folder:
            output = Output(Path(folder) / "clip.mp4", overwrite=True)

            def rest() -> float:
                spent = self.pipe(PROMPT, output=output, **self.options).record.seconds
                return spent["total"] - sum(spent.get(name, 0.0) for name in PARTS)

            return self.repeat.given("rest of clip", "clip less text, denoising and VAE", rest)

    def cold_start(self) -> Measurement:
        """A new process from its start to its end."""
        return self.repeat(
            "cold start",
            "new process, empty cache, to finished mp4",
            lambda: generate(self.arguments),
        )

    @property
    def _steps_needed(self) -> int:
        return self.repeat.warmup + self.repeat.repetitions

    def _of_steps(self, steps: int) -> dict[str, Any]:
        """The request with so many steps, uniform where it has sigmas of its own, all computed."""
        zero = {"zero_init_steps": 0} if self.options.get("guidance_method") == "cfg-zero" else {}
        return {**self.options, **zero, "steps": steps, "sigmas": None}

    @cached_property
    def _clip(self) -> Clip:
        return self.pipe(PROMPT, **self.options)

    @cached_property
    def _denoised(self) -> NDArray[np.float32]:
        stream = self.pipe.stream(PROMPT, **self._of_steps(1))
        next(stream)
        return stream.latents


PARTS = ("text", "image", "denoise", "vae")
"""Of a clip, as its record names them."""

STAGES: dict[str, Callable[[Stages], Measurement]] = {
    "text": Stages.text,
    "denoise step": Stages.denoise_step,
    "guidance+scheduler": Stages.guidance_and_scheduler,
    "vae first frame": Stages.vae_first,
    "vae next frames": Stages.vae_next,
    "encode": Stages.encode,
    "clip": Stages.clip,
    "rest of clip": Stages.rest_of_clip,
    "cold start": Stages.cold_start,
}
"""Every stage by its name, in the order of a request."""


def generate(arguments: list[str]) -> dict[str, Any]:
    """Run `mutoscope generate` in a new process; returns its record.

    Raises:
        MutoscopeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MUTOSCOPE_CACHE": f"{folder}/cache"}
        command = [sys.executable, "-P", "-m", "mutoscope", "generate", PROMPT, "--json"]
        command += ["-o", f"{folder}/clip.mp4", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise MutoscopeError(f"the cold start failed: {done.stderr.strip()}")
    record: dict[str, Any] = json.loads(done.stdout)
    return record
