"""The settings of Wan's components, with the defaults of their classes."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

from ...checkpoint import Checkpoint

TRANSFORMERS = ("transformer", "transformer_2")
"""The folders of the denoisers, in the order of the bundle's `DENOISERS`."""


def transformer(checkpoint: Checkpoint, name: str = "transformer") -> SimpleNamespace:
    """As `WanTransformer3DModel(...)` takes them."""
    from diffusers import WanTransformer3DModel

    return _settings(WanTransformer3DModel, checkpoint.component(name).config)


def two_experts(checkpoint: Checkpoint) -> bool:
    """Whether there is a second transformer, for the timesteps below `boundary_ratio`."""
    return checkpoint.has("transformer_2")


def vae(checkpoint: Checkpoint) -> SimpleNamespace:
    """As `AutoencoderKLWan(...)` takes them."""
    from diffusers import AutoencoderKLWan

    return _settings(AutoencoderKLWan, checkpoint.component("vae").config)


def first_frame_given(checkpoint: Checkpoint) -> bool:
    """Whether each token has its own timestep, so that the first frame can be given (TI2V)."""
    return bool(checkpoint.index.get("expand_timesteps"))


def _settings(kind: type, config: dict[str, Any]) -> SimpleNamespace:
    parameters = inspect.signature(kind).parameters.values()
    return SimpleNamespace(**{p.name: config.get(p.name, p.default) for p in parameters})
