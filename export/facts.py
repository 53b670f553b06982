"""What a bundle's manifest says of a model, as far as it can be known without its weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.manifest import DenoiserSpec, LatentSpec, Limits, TextSpec


@dataclass(frozen=True)
class Facts:
    """See the fields of `engine.bundle.Manifest`; the preview of `latents` is fitted later."""

    text: TextSpec
    denoiser: DenoiserSpec
    latents: LatentSpec
    limits: Limits
