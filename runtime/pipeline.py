"""Prompt → clip. The whole way of one request stands here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import cache_folder
from ..closing import Closing
from ..engine import Bundle, Session, Sessions
from ..engine.lora import Scale, open_loras
from ..engine.manifest import DECODERS, DENOISERS, TEXT_ENCODER
from ..engine.presets import preset_loras
from ..kernels.device import Stream as DeviceStream
from . import record, vae
from .arithmetic import Arithmetic, arithmetic_on
from .arrays import Given, take
from .clip import Clip
from .conditioning import condition, graphs_for_image
from .denoise import Step as TakeStep
from .denoise import Steps, ZeroInit, denoise
from .embeddings import EmbeddingCache, encode, pad
from .experts import Experts
from .guidance import GuidedDenoiser, fits_batched
from .output import Destination, Output, destination
from .record import Record
from .recorded import RecordedSteps
from .request import Request, Settings, check_prompt, settle
from .schedulers import get_scheduler
from .step_cache import StepCache
from .stream import Step, Stream
from .text import Tokenizer
from .tiles import Tiling
from .video.feed import RGB


class Pipeline(Closing):
    """The sessions of a bundle, tied into prompt → clip. Close it, or use it in a `with`.

    Attributes:
        bundle: what it runs.
        sessions: its engines, opened when first needed.
    """

    def __init__(self, bundle: Bundle, sessions: Sessions) -> None:
        self.bundle = bundle
        self.sessions = sessions
        text, latents = bundle.manifest.text, bundle.manifest.latents
        self.tokenizer = Tokenizer(bundle.file(text.tokenizer), text.max_tokens)
        identity = " ".join([bundle.sha256, sessions.text_backend, *record.versions().values()])
        self._embeddings = EmbeddingCache(cache_folder("prompts"), identity, text.embedding_dim)
        self._mean = np.asarray(latents.mean, np.float32)
        self._std = np.asarray(latents.std, np.float32)

    def __call__(
        self,
        prompt: str,
        *,
        output: Output | str | os.PathLike[str] | None = None,
        on_step: Callable[[Step], None] | None = None,
        **options: Any,
    ) -> Clip:
        """Make a clip.

        Args:
            prompt: what it shows.
            output: where to write it; without one the frames stay in memory.
            on_step: called after each denoising step.
            **options: the other fields of `Request`.

        Raises:
            UserError: a value that cannot be, or an output that cannot be written.
        """
        settings, account = self._settle(prompt, options)
        target = destination(output, account)
        stream = self._stream(settings, account)
        for step in stream:
            if on_step is not None:
                on_step(step)
        return self._render(stream.native_latents, account, target)

    def stream(self, prompt: str, **options: Any) -> Stream:
        """Make a clip step by step: iterate, look, steer or stop, then call `clip()`.

        Raises:
            UserError: a value that cannot be.
        """
        return self._stream(*self._settle(prompt, options))

    def decode(self, latents: Given, *, native: bool = False) -> Iterator[Any]:
        """Frames of denoised latents, uint8 (frames, height, width, 3), some at a time.

        Args:
            latents: float32 (1, channels, frames, height, width), of any library, as in `Request`.
            native: leave the frames where they are made: on a GPU each piece is a `DeviceArray`,
                to be kept until what other libraries do with it is done.
        """
        arithmetic, decoded = self._arithmetic, self._decode(self._array(latents))
        return map(arithmetic.rgb8, decoded) if native else arithmetic.pictures(decoded, RGB)

    def preview(self, latents: Given) -> NDArray[np.uint8]:
        """A thumbnail of each latent frame, uint8 (frames, height, width, 3)."""
        return self._preview(self._array(latents))

    def set_loras(self, loras: Mapping[str | os.PathLike[str], Scale]) -> None:
        """Change the LoRAs, as for `load`; `{}` for none but the preset's.

        Streams that have begun cannot go on.

        Raises:
            UserError: one cannot be read or is for another model; those before stay.
        """
        self.sessions.set_loras((*preset_loras(self.bundle), *open_loras(loras, self.bundle)))

    def close(self) -> None:
        """Close the engines."""
        self.sessions.close()

    @property
    def _arithmetic(self) -> Arithmetic[Any]:
        return arithmetic_on(self.sessions.stream)

    def _find_stream(self) -> DeviceStream | None:
        return self.sessions.stream

    def _array(self, latents: Given) -> Any:
        return self._arithmetic.array(take("latents", latents, self._find_stream))

    def _settle(self, prompt: str, options: dict[str, Any]) -> tuple[Settings, Record]:
        request = Request.of(prompt, options)
        settings = settle(request, self.bundle.manifest, self._find_stream)
        for name in graphs_for(settings.frames):
            self.bundle.graph(name)
        if settings.image is not None:
            for name in graphs_for_image(self.bundle.manifest, settings.frames):
                self.bundle.graph(name)
        return settings, record.start(settings.record(), self.sessions)

    def _stream(self, settings: Settings, account: Record) -> Stream:
        arithmetic = self._arithmetic
        with account.stage("text"):
            positive = self._embed(settings.prompt, account)
            negative = self._embed(settings.negative_prompt, account) if settings.guided else None
            self.sessions.done(TEXT_ENCODER)
        scheduler = get_scheduler(
            settings.scheduler,
            settings.shift,
            self.bundle.manifest.scheduler.train_timesteps,
            settings.shift_terminal,
            settings.sigmas,
        )
        schedule = scheduler.schedule(settings.steps)
        guided = schedule.within(settings.guidance_interval)
        with account.stage("image") if settings.image is not None else nullcontext():
            given = condition(self.sessions, settings.image, settings.latent_shape[2], arithmetic)
            self.sessions.done(*graphs_for_image(self.bundle.manifest, settings.frames))
        experts = Experts(self.sessions, settings.guidance_scales, guided)
        with account.stage("open"):
            experts(schedule.timesteps[settings.zero_init_steps or 0])
        account.kernels = self.sessions.kernels
        batched = not settings.sequential_guidance and fits_batched(
            self.bundle.manifest, settings.latent_shape, arithmetic.memory
        )
        predict = GuidedDenoiser(
            experts,
            arithmetic,
            positive,
            negative,
            batched,
            given,
            settings.guidance_rescale,
            settings.variant,
        )

        if settings.latents is None:
            latents = arithmetic.noise(settings.seed, settings.latent_shape)
        else:
            latents = arithmetic.array(settings.latents)
            if given.first is not None:  # which may be written into what is the caller's
                latents = arithmetic.copy(latents)
        latents = given.hold(latents, arithmetic)

        def steer(new_prompt: str) -> None:
            predict.prompt = self._embed(check_prompt(new_prompt), account)
            self.sessions.done(TEXT_ENCODER)

        step = self._steps(predict, settings, account)
        if settings.zero_init_steps:
            still = frozenset(map(float, schedule.timesteps[: settings.zero_init_steps]))
            step = ZeroInit(step, arithmetic, given, still)
        return Stream(
            denoise(step, latents, scheduler, schedule, arithmetic.wait),
            settings.steps,
            latents,
            account,
            numpy=arithmetic.numpy,
            preview=self._preview,
            steer=steer,
            render=self._render,
        )

    def _steps(
        self, denoiser: GuidedDenoiser[Any], settings: Settings, account: Record
    ) -> TakeStep[Any]:
        """What takes the steps of a clip: on a GPU they are recorded, where nothing forbids it."""
        arithmetic, stream = denoiser.arithmetic, self.sessions.stream
        if settings.step_cache:
            if stream is not None:
                account.not_recorded = "a step cache decides on the host"
            computed = settings.steps - (settings.zero_init_steps or 0)
            cache = StepCache(denoiser, arithmetic, settings.step_cache, computed)
            return Steps(cache, arithmetic, denoiser.conditioning)
        if stream is None:
            return Steps(denoiser, arithmetic, denoiser.conditioning)

        def refused(why: str) -> None:
            account.not_recorded = why

        return RecordedSteps(denoiser, stream, refused)

    def _embed(self, prompt: str, account: Record) -> Any:
        tokens = self.tokenizer(prompt)
        if tokens.cut:
            account.warnings.append(f"prompt cut; ignored: {tokens.cut}")
        embedding = self._embeddings.get(
            tokens, lambda: encode(self.sessions(TEXT_ENCODER), tokens)
        )
        return self._arithmetic.array(pad(embedding, self.bundle.manifest.text.max_tokens))

    def _decode(self, latents: Any, tile: int = 0) -> Iterator[Any]:
        arithmetic = self._arithmetic
        mean, std = map(arithmetic.array, (self._mean, self._std))
        frames = (
            arithmetic.latent_frame(latents, index, mean, std) for index in range(latents.shape[2])
        )
        scale = self.bundle.manifest.latents.spatial_compression
        height, width = latents.shape[-2:]
        if 0 < tile < scale * max(height, width):
            tiling = Tiling.of(height, width, tile, scale)
            return vae.decode_tiled(self.sessions, list(frames), tiling, arithmetic)
        return vae.decode(self._open_decoder, frames)

    def _noted(self, frames: Iterator[Any], account: Record) -> Iterator[Any]:
        """The same frames; what computes them is known as soon as there is one."""
        for frame in frames:
            account.kernels = self.sessions.kernels
            yield frame

    def _open_decoder(self, name: str) -> Session:
        for other in DECODERS:
            if other != name:
                self.sessions.done(other)
        return self.sessions(name)

    def _preview(self, latents: Any) -> NDArray[np.uint8]:
        affine = self.bundle.manifest.latents.preview
        matrix, bias = (np.asarray(values, np.float32) for values in (affine.matrix, affine.bias))
        arithmetic = self._arithmetic
        return arithmetic.preview(latents, arithmetic.array(matrix), arithmetic.array(bias))

    def _render(self, latents: Any, account: Record, target: Destination | None) -> Clip:
        self.sessions.done(*DENOISERS)
        feed = RGB if target is None else target.writer.feed_from(self.sessions.stream)
        decoded = self._decode(latents, account.settings["vae_tile"])
        pictures = self._arithmetic.pictures(self._noted(decoded, account), feed)
        pieces = account.timed("vae", pictures)
        if target is not None:
            return Clip(account, path=target.write(pieces))
        frames = np.concatenate(list(pieces))
        account.finish()
        return Clip(account, frames=frames)


def graphs_for(frames: int) -> tuple[str, ...]:
    """What a clip of so many frames needs: one frame does without the last."""
    return TEXT_ENCODER, DENOISERS[0], *DECODERS[: 1 if frames == 1 else 2]
