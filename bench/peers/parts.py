"""What is compared: a denoiser step, a prompt's embedding, the VAE, whole clips, and growth."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch

from ...cache import cache_folder
from ...engine import Bundle, Sessions
from ...engine.memory import return_free_memory
from ...runtime import vae as runtime_vae
from ...runtime.pipeline import Pipeline
from ..suite import Figures, SkippedError
from ..wan_layout import Size, operations, text_operations
from . import ceilings as device_ceilings
from . import diffusers_modules
from .contest import OURS, OURS_INT8, Array, Engine, Opened, contest, frames_error
from .int8_sessions import Int8Sessions
from .openvino_sessions import OpenVinoSessions
from .setting import Setting

NEAR, FAR = Size(416, 240, 17), Size(832, 480, 17)
TINY = Size(64, 32, 5)
LONGER = tuple(Size(416, 240, frames) for frames in (5, 17, 37))
LARGER = tuple(Size(*side, 17) for side in ((208, 112), (416, 240), (624, 352)))
SIDE = 2048
"""Of the matrices that show what the machine can do."""


class Peer(Protocol):
    """Opens the work on PyTorch."""

    def __call__(self, precision: str, *, compiled: bool) -> Opened:
        """In a precision of `DTYPES`."""


def ceilings(setting: Setting) -> Figures:
    """Matrix products in every precision, and a copy of memory."""
    torch.set_num_threads(setting.threads)
    copied, side = (1 << 20, 64) if setting.small else (1 << 28, SIDE)
    measured = device_ceilings.measure(
        "cpu", copied=copied, side=side, dtypes=("bfloat16", "float32")
    )
    other = device_ceilings.onnxruntime_rate(side, setting.threads)
    return {**measured, "onnxruntime_float32_tflop_s": other}


def denoiser(setting: Setting, size: Size) -> Figures:
    """One prediction."""
    size = TINY if setting.small else size
    found = contest(denoisers(setting, size), setting.repetitions)
    return {**_denoiser_facts(setting, size), "engines": found}


def growth(setting: Setting) -> Figures:
    """One prediction at more frames, and at more pixels: diffusers' in fp32, and ours."""
    found = {}
    for size in dict.fromkeys((TINY, Size(64, 32, 9)) if setting.small else LONGER + LARGER):
        engines = [e for e in denoisers(setting, size) if e.name in ("diffusers fp32", OURS)]
        found[size.name] = {
            **_denoiser_facts(setting, size),
            "engines": contest(engines, setting.repetitions),
        }
    return {"sizes": found}


def text(setting: Setting) -> Figures:
    """A prompt of 512 tokens, a quarter of them padding; what is shown of it is compared."""
    feeds = setting.text_feeds()
    shown = feeds["attention_mask"] == 1

    def peer(precision: str, *, compiled: bool) -> Opened:
        opened = diffusers_modules.text_encoder(
            setting.checkpoint("text"), feeds, precision, compiled=compiled
        )
        return Opened(lambda: opened.run()[shown])

    def ours(sessions: Sessions) -> Opened:
        session = sessions("text_encoder")
        return Opened(lambda: np.asarray(session.run(feeds)["prompt_embeds"])[shown])

    found = contest(_engines(setting, "text", peer, ours), setting.repetitions)
    tokens = feeds["input_ids"].size
    facts = {} if setting.small else {"operations": text_operations(setting.text, tokens)}
    blocks = "" if setting.small else f"blocks: {setting.blocks}, "
    return {"what": f"text encoder, {blocks}tokens: {tokens}", **facts, "engines": found}


def vae(setting: Setting) -> Figures:
    """Two latent frames: one frame, then four, as in the middle of a clip.

    All engines together would not fit: each gives its memory back after its turn, takes it again in
    a run that is not timed, and is timed in the next. Nothing is compiled: the decoder is called
    anew for each latent frame, with lists that grow. In our int8 bundles its products are in bf16.
    """
    latents = setting.latents()
    checkpoint = setting.checkpoint("vae")

    def peer(precision: str, *, compiled: bool) -> Opened:
        del compiled  # those engines are left out below
        opened = diffusers_modules.vae_decoder(checkpoint, latents, precision)
        return replace(opened, before=opened.run, rest=return_free_memory)

    def ours(sessions: Sessions) -> Opened:
        pieces = np.split(latents, latents.shape[2], axis=2)

        def run() -> Array:
            return np.concatenate(list(runtime_vae.decode(sessions, pieces)), axis=2)

        return Opened(run, before=run, rest=partial(_give_back, sessions))

    everyone = _engines(setting, "vae", peer, ours)
    engines = [e for e in everyone if e.precision != "int8" and "compiled" not in e.name]
    engines += [replace(e, precision="bf16") for e in everyone if e.name == OURS_INT8]
    found = contest(engines, setting.repetitions, partial(frames_error, peak=2.0))
    _, _, frames, height, width = latents.shape
    return {
        "what": f"VAE decoder, {frames} latent frames of {8 * width}x{8 * height}",
        "operations": diffusers_modules.vae_operations(checkpoint, latents),
        "engines": found,
    }


def clip(setting: Setting) -> Figures:
    """The embedded model from prompt to frames; no prompt is remembered."""
    settings = setting.request()
    peer = partial(diffusers_modules.clip, setting.checkpoint("clip"), settings)

    def ours(sessions: Sessions) -> Opened:
        pipe = Pipeline(sessions.bundle, sessions)
        options = {name: value for name, value in settings.items() if name != "prompt"}
        return Opened(lambda: pipe(settings["prompt"], **options).frames, rest=_forget_prompts)

    engines = _engines(setting, "clip", peer, ours)
    found = contest(engines, setting.repetitions, partial(frames_error, peak=255.0))
    size = Size(settings["width"], settings["height"], settings["frames"])
    return {"what": f"embedded model, {size.name}, {settings['steps']} steps", "engines": found}


def denoisers(setting: Setting, size: Size) -> list[Engine]:
    """What makes one prediction at that size."""
    feeds = setting.denoiser_feeds(size)

    def peer(precision: str, *, compiled: bool) -> Opened:
        return diffusers_modules.denoiser(
            setting.checkpoint("denoiser"), feeds, precision, compiled=compiled
        )

    def ours(sessions: Sessions) -> Opened:
        session = sessions("denoiser")
        return Opened(lambda: np.asarray(session.run(feeds)["sample"]))

    return _engines(setting, "denoiser", peer, ours)


def _denoiser_facts(setting: Setting, size: Size) -> Figures:
    layout = setting.denoiser
    return {
        "what": f"denoiser, blocks: {layout.layers}, tokens: {size.tokens}",
        "size": size.name,
        "tokens": size.tokens,
        "operations": operations(layout, size.tokens),
    }


def _engines(
    setting: Setting, model: str, peer: Peer, ours: Callable[[Sessions], Opened]
) -> list[Engine]:
    """Everyone, diffusers in fp32 first: it is what the others are compared with."""
    torch.set_num_threads(setting.threads)
    with suppress(Exception):  # those who need it will say what is wrong
        setting.bundle(model)  # before any clock runs

    def compiled(precision: str) -> Opened:
        if setting.small or not setting.compile:
            raise SkippedError("nothing is compiled with --small or --no-compile")
        return peer(precision, compiled=True)

    def openvino(way: str) -> Opened:
        return ours(OpenVinoSessions(setting.bundle(model), way, setting.options))

    return [
        Engine("diffusers fp32", "fp32", partial(peer, "fp32", compiled=False)),
        Engine("diffusers fp32, compiled", "fp32", partial(compiled, "fp32")),
        Engine("diffusers bf16", "bf16", partial(peer, "bf16", compiled=False)),
        Engine("diffusers bf16, compiled", "bf16", partial(compiled, "bf16")),
        Engine("OpenVINO f32", "fp32", partial(openvino, "f32")),
        Engine("OpenVINO bf16", "bf16", partial(openvino, "bf16")),
        Engine("OpenVINO int8", "int8", partial(openvino, "int8")),
        Engine("OpenVINO int8, bf16", "int8", partial(openvino, "int8+bf16")),
        Engine(OURS, "fp32", lambda: ours(_our_sessions(setting.bundle(model), setting))),
        Engine(
            OURS_INT8, "int8", lambda: ours(Int8Sessions(setting.bundle(model), setting.options))
        ),
    ]


def _our_sessions(bundle: Bundle, setting: Setting) -> Sessions:
    return Sessions(bundle, "onnxruntime", setting.options)


def _give_back(sessions: Sessions) -> None:
    """Let a VAE's sessions give back what they keep for the next run: gigabytes at 480p."""
    if isinstance(sessions, OpenVinoSessions):
        sessions.rest()
    else:
        for name in ("vae_decoder_first", "vae_decoder_next"):
            sessions.release(name)
            sessions(name)
    return_free_memory()


def _forget_prompts() -> None:
    shutil.rmtree(cache_folder("prompts"), ignore_errors=True)


PARTS: Mapping[str, Callable[[Setting], Figures]] = {
    "ceilings": ceilings,
    "denoiser": partial(denoiser, size=NEAR),
    "text": text,
    "clip": clip,
    "vae": vae,
    "growth": growth,
    "denoiser-large": partial(denoiser, size=FAR),
}
"""By name, in their order: what takes longest comes last."""
