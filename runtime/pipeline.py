"""Prompt → clip. The whole way of one request stands here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Bundle, Sessions
from ..engine.closing import Closing
from ..engine.lora import open_loras
from ..kernels.frames import latent_preview
from ..kernels.latents import denormalize
from ..kernels.noise import standard_normal
from . import record, vae
from .clip import Clip
from .conditioning import condition, graphs_for_image
from .denoise import denoise
from .embeddings import EmbeddingCache, cache_folder, encode, pad
from .experts import Experts
from .guidance import GuidedDenoiser, fits_batched
from .output import Destination, Output, destination
from .record import Record
from .request import Request, Settings, check_prompt, settle
from .schedulers import get_scheduler
from .stream import Step, Stream
from .text import Tokenizer

Array = NDArray[np.float32]
GRAPHS = ("text_encoder", "denoiser", "vae_decoder_first", "vae_decoder_next")
"""What a clip needs; one frame does without the last."""


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
        identity = " ".join([bundle.sha256, sessions.backend, *record.versions().values()])
        self._embeddings = EmbeddingCache(cache_folder(), identity, text.embedding_dim)
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
        return self._render(stream.latents, account, target)

    def stream(self, prompt: str, **options: Any) -> Stream:
        """Make a clip step by step: iterate, look, steer or stop, then call `clip()`.

        Raises:
            UserError: a value that cannot be.
        """
        return self._stream(*self._settle(prompt, options))

    def decode(self, latents: Array) -> Iterator[NDArray[np.uint8]]:
        """Frames of denoised latents, uint8 (frames, height, width, 3), some at a time."""
        return vae.decode(self.sessions, denormalize(latents, self._mean, self._std))

    def preview(self, latents: Array) -> NDArray[np.uint8]:
        """A thumbnail of each latent frame, uint8 (frames, height, width, 3)."""
        preview = self.bundle.manifest.latents.preview
        return latent_preview(
            latents, np.asarray(preview.matrix, np.float32), np.asarray(preview.bias, np.float32)
        )

    def set_loras(self, loras: Mapping[str | os.PathLike[str], float]) -> None:
        """Change the LoRAs, as for `load`; `{}` for none. Streams that have begun cannot go on.

        Raises:
            UserError: one cannot be read or is for another model; those before stay.
        """
        self.sessions.set_loras(open_loras(loras))

    def close(self) -> None:
        """Close the engines."""
        self.sessions.close()

    def _settle(self, prompt: str, options: dict[str, Any]) -> tuple[Settings, Record]:
        settings = settle(Request.of(prompt, options), self.bundle.manifest)
        for name in GRAPHS[: 3 if settings.frames == 1 else 4]:
            self.bundle.graph(name)
        if settings.image is not None:
            for name in graphs_for_image(self.bundle.manifest, settings.frames):
                self.bundle.graph(name)
        return settings, record.start(settings.record(), self.sessions)

    def _stream(self, settings: Settings, account: Record) -> Stream:
        with account.stage("text"):
            positive = self._embed(settings.prompt, account)
            negative = self._embed(settings.negative_prompt, account) if settings.guided else None
        published = self.bundle.manifest.scheduler
        scheduler = get_scheduler(
            settings.scheduler, settings.shift, published.train_timesteps, published.shift_terminal
        )
        schedule = scheduler.schedule(settings.steps)
        experts = Experts(self.sessions, settings.guidance_scales)
        with account.stage("open"):
            experts(schedule.timesteps[0])
        batched = fits_batched(self.bundle.manifest, settings.latent_shape)
        with account.stage("image") if settings.image is not None else nullcontext():
            given = condition(self.sessions, settings.image, settings.latent_shape[2])
        predict = GuidedDenoiser(experts, positive, negative, batched, given)

        latents = settings.latents
        if latents is None:
            latents = standard_normal(settings.seed, settings.latent_shape)

        def steer(new_prompt: str) -> None:
            predict.prompt = self._embed(check_prompt(new_prompt), account)

        return Stream(
            denoise(predict, latents, scheduler, schedule, given.hold),
            settings.steps,
            given.hold(latents),
            account,
            preview=self.preview,
            steer=steer,
            render=self._render,
        )

    def _embed(self, prompt: str, account: Record) -> Array:
        tokens = self.tokenizer(prompt)
        if tokens.cut:
            account.warnings.append(f"prompt cut; ignored: {tokens.cut}")
        embedding = self._embeddings.get(
            tokens, lambda: encode(self.sessions("text_encoder"), tokens)
        )
        return pad(embedding, self.bundle.manifest.text.max_tokens)

    def _render(self, latents: Array, account: Record, target: Destination | None) -> Clip:
        pieces = account.timed("vae", self.decode(latents))
        if target is not None:
            return Clip(account, path=target.write(pieces))
        frames = np.concatenate(list(pieces))
        account.finish()
        return Clip(account, frames=frames)
