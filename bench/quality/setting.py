"""What is compared: ways to make clips, and the clips that each of them makes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...engine.lora import Scale
from ...engine.manifest import FULL_PRESET, PRECISIONS
from ...errors import UserError
from ...runtime.pipeline import Pipeline
from ...runtime.request import Request, Settings, settle
from .record import ClipQuality, Quality

REFERENCE_STEPS = 30
REPORTED = (
    "scheduler", "steps", "guidance_scale", "guidance_method", "zero_init_steps", "apg_eta",
    "apg_norm_threshold", "guidance_rescale", "guidance_interval", "step_cache",
    "shift", "shift_terminal", "sigmas",
)  # fmt: skip
NOISE = ("width", "height", "frames", "latent_shape")
"""What settings have to share if their clips come from the same noise."""


@dataclass(frozen=True)
class Setting:
    """One way to make clips.

    Attributes:
        bundle: its folder; by default the embedded one.
        backend: what runs the engines.
        text_backend: what runs the text encoder, if something else.
        precision: what the bundle must have; by default whatever it has.
        preset: of the bundle, as `load` takes it.
        threads: CPU threads; by default all cores.
        weight_budget: bytes of a GPU's memory for streamed weights, as `load` takes it.
        int8_attention: whether the scores of the denoiser's attention are int8 products.
        keep_open: whether engines wait for the next clip, as `load` takes it.
        loras: files and their scales, as `load` takes them.
        options: fields of `Request`, e.g. steps, guidance_scale, scheduler, shift.
    """

    bundle: str | os.PathLike[str] | None = None
    backend: str = "onnxruntime"
    text_backend: str | None = None
    precision: str | None = None
    preset: str | None = None
    threads: int | None = None
    weight_budget: int | None = None
    int8_attention: bool = False
    keep_open: bool = True
    loras: Mapping[str | os.PathLike[str], Scale] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """The clips that every setting makes.

    Attributes:
        prompts: how many.
        seed: of the first clip's noise; each next one's is one more.
        options: fields of `Request` for all, e.g. width, height, frames.
    """

    prompts: int = 32
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A setting with its bundle opened and every value settled.

    Attributes:
        bundle: how it is called: the folder as given, or the embedded bundle's name.
        pipe: what makes the clips; settings with the same engines share one.
        options: of the request, but for prompt and seed.
        settings: of the first clip.
    """

    bundle: str
    pipe: Pipeline
    options: dict[str, Any]
    settings: Settings

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for two variants that make the same clips."""
        return id(self.pipe), *self.settings.record().values()

    def quality(self, clips: tuple[ClipQuality, ...] = ()) -> Quality:
        """The record of its clips."""
        return Quality(
            self.bundle,
            self.pipe.bundle.precision,
            self.pipe.sessions.backend,
            self.pipe.bundle.preset,
            {name: getattr(self.settings, name) for name in REPORTED},
            clips,
        )


class Opener:
    """Opens bundles, each once for a backend and a number of threads; engines wait till asked."""

    def __init__(self) -> None:
        self._opened: dict[tuple[Any, ...], Pipeline] = {}
        self._distinct: dict[tuple[Any, ...], Pipeline] = {}

    def __call__(self, setting: Setting, task: Task, prompt: str) -> Variant:
        """Check a setting against its bundle.

        Raises:
            UserError: no such bundle, or a value that it cannot take.
        """
        pipe = self._pipe(setting)
        options = {**task.options, **setting.options}
        manifest = pipe.bundle.manifest
        settings = settle(Request.of(prompt, {**options, "seed": task.seed}), manifest)
        name = manifest.name if setting.bundle is None else os.fspath(setting.bundle)
        return Variant(name, pipe, options, settings)

    def _pipe(self, setting: Setting) -> Pipeline:
        from ... import load

        engine: dict[str, Any] = {
            "backend": setting.backend,
            "text_backend": setting.text_backend,
            "precision": setting.precision,
            "preset": setting.preset,
            "threads": setting.threads,
            "weight_budget": setting.weight_budget,
            "int8_attention": setting.int8_attention,
            "keep_open": setting.keep_open,
        }
        loras = tuple(
            (path, tuple(scale.items()) if isinstance(scale, Mapping) else scale)
            for path, scale in setting.loras.items()
        )
        given = setting.bundle, *engine.values(), loras
        if given not in self._opened:
            pipe = load(setting.bundle, **engine, loras=setting.loras)
            engines = (
                setting.backend, setting.text_backend, setting.threads, setting.int8_attention
            )  # fmt: skip
            same = pipe.bundle.sha256, pipe.bundle.preset, engines, loras
            self._opened[given] = self._distinct.setdefault(same, pipe)
        return self._opened[given]


def best(variants: Sequence[Variant], settings: Sequence[Setting]) -> Setting:
    """The reference if none is chosen: the most precise bundle, 30 steps, its own defaults."""
    ranks = [PRECISIONS.index(variant.pipe.bundle.precision) for variant in variants]
    chosen = settings[ranks.index(min(ranks))]
    return Setting(
        chosen.bundle,
        chosen.backend,
        chosen.text_backend,
        preset=FULL_PRESET,
        threads=chosen.threads,
        weight_budget=chosen.weight_budget,
        loras=chosen.loras,
        options={"steps": REFERENCE_STEPS},
    )


def check_noise(variant: Variant, reference: Variant) -> None:
    """Refuse a variant whose clips do not come from the reference's noise.

    Raises:
        UserError: its frames or latents are of another form.
    """
    if any(getattr(variant.settings, n) != getattr(reference.settings, n) for n in NOISE):
        raise UserError(
            f"{variant.bundle} makes {_form(variant)}, the reference {reference.bundle} "
            f"{_form(reference)}: they cannot be compared; "
            "give --size and --frames, or another --reference"
        )


def _form(variant: Variant) -> str:
    s = variant.settings
    latents = "x".join(map(str, s.latent_shape[1:]))
    return f"{s.frames} frames of {s.width}x{s.height} (latents of {latents})"
