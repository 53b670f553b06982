"""How the comparison runs, and what it runs on: checkpoints and their bundles, made when needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...engine import Bundle, EngineOptions
from ...engine.manifest import Manifest
from ...runtime.conditioning import Conditioning
from ..gpu_loop import embedded_bundle, embedded_checkpoint, request
from ..wan_layout import TEXT_TOKENS, UMT5_XXL, WAN_1_3B, Layout, Size, TextLayout
from . import wan_checkpoint
from .contest import Array

VOCABULARY = 4096
"""Of the cut text encoder: a look-up costs the same in a table of any length."""

GRAPHS = {
    "denoiser": ("denoiser",),
    "text": ("text_encoder",),
    "vae": ("vae_decoder_first", "vae_decoder_next"),
}


def all_cores() -> int:
    """As many threads as this process has cores, for every engine."""
    return len(os.sched_getaffinity(0))


@cache
def _opened(folder: Path) -> Bundle:
    """A bundle whose files are compared with their hashes once: they are large."""
    return Bundle.open(folder)


@dataclass(frozen=True)
class Setting:
    """How parts run.

    Attributes:
        work: a folder for checkpoints, bundles and caches; what lies there is used again.
        small: the embedded model's own parts at tiny sizes, nothing exported, nothing compiled.
        blocks: of the denoiser and of the text encoder.
        repetitions: rounds.
        compile: whether PyTorch's modules are compiled too, which takes longest.
        frame: width and height of the VAE's frames, in pixels.
        threads: of every engine.
    """

    work: Path
    small: bool = False
    blocks: int = 2
    repetitions: int = 3
    compile: bool = True
    frame: tuple[int, int] = (832, 480)
    threads: int = field(default_factory=all_cores)

    @property
    def options(self) -> EngineOptions:
        """Of our sessions."""
        return EngineOptions(self.threads)

    @property
    def denoiser(self) -> Layout:
        """Wan 1.3B's, cut."""
        if not self.small:
            return replace(WAN_1_3B, layers=self.blocks)
        spec = self._embedded
        width = spec.denoiser.hidden_size // spec.denoiser.heads
        return Layout(
            spec.denoiser.heads,
            width,
            spec.denoiser.layers,
            spec.denoiser.ffn_dim,
            spec.text.embedding_dim,
        )

    @property
    def _embedded(self) -> Manifest:
        return _opened(embedded_bundle()).manifest

    @property
    def text(self) -> TextLayout:
        """UMT5-XXL's, cut."""
        return replace(UMT5_XXL, num_layers=self.blocks, vocab_size=VOCABULARY)

    def checkpoint(self, model: str) -> Path:
        """A checkpoint in which that model is of its real width.

        Args:
            model: one of `GRAPHS`; any other is the embedded one.
        """
        if self.small or model not in GRAPHS:
            return embedded_checkpoint()
        write: dict[str, Callable[[Path, Path], None]] = {
            "denoiser": lambda to, like: wan_checkpoint.write(to, like, self.denoiser),
            "text": lambda to, like: wan_checkpoint.write_text(to, like, self.text),
            "vae": wan_checkpoint.write_vae,
        }
        folder = self._kept(model, "checkpoint")
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.partial")
            write[model](part, embedded_checkpoint())
            part.replace(folder)
        return folder

    def bundle(self, model: str) -> Bundle:
        """That checkpoint as our exporter writes it, in fp32, with the graphs of the model."""
        if self.small or model not in GRAPHS:
            return _opened(embedded_bundle())
        folder = self._kept(model, "bundle")
        if not folder.exists():
            wan_checkpoint.export(self.checkpoint(model), folder, GRAPHS[model], "fp32")
        return _opened(folder)

    def _kept(self, model: str, kind: str) -> Path:
        cut = "" if model == "vae" else f"-{self.blocks}"
        return self.work / f"{model}{cut}-{kind}"

    def denoiser_feeds(self, size: Size) -> dict[str, Array]:
        """Noise, a timestep and a text, the same each time."""
        random = np.random.default_rng(0)
        latents = random.standard_normal((1, 16, *size.latent), np.float32)
        by_frame = self.small and self._embedded.denoiser.image == "first_frame"
        given: Conditioning[Any] = Conditioning(by_frame)
        return {
            "hidden_states": latents,
            "timestep": given.timesteps(np.float32(500), latents),
            "encoder_hidden_states": random.standard_normal(
                (1, TEXT_TOKENS, self.denoiser.text_dim), np.float32
            ),
        }

    def text_feeds(self) -> dict[str, Array]:
        """A prompt as long as any, the last quarter of it padding."""
        ids = np.random.default_rng(0).integers(3, 100, (1, TEXT_TOKENS))
        mask = np.ones_like(ids)
        mask[:, TEXT_TOKENS * 3 // 4 :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    def latents(self) -> Array:
        """Two latent frames in the VAE's own space: the first call, and one of the next."""
        width, height = (64, 32) if self.small else self.frame
        size = Size(width, height, frames=5)
        return np.random.default_rng(0).standard_normal((1, 16, *size.latent), np.float32)

    def request(self) -> dict[str, Any]:
        """A clip of the embedded model, with its noise."""
        return request(small=self.small)
