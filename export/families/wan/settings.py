"""The settings of Wan's components, with the defaults of their classes."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

from ...checkpoint import Checkpoint


def transformer(checkpoint: Checkpoint) -> SimpleNamespace:
    """As `WanTransformer3DModel(...)` takes them."""
    from diffusers import WanTransformer3DModel

    return _settings(WanTransformer3DModel, checkpoint.config("transformer"))


def vae(checkpoint: Checkpoint) -> SimpleNamespace:
    """As `AutoencoderKLWan(...)` takes them."""
    from diffusers import AutoencoderKLWan

    return _settings(AutoencoderKLWan, checkpoint.config("vae"))


def first_frame_given(checkpoint: Checkpoint) -> bool:
    """Whether each token has its own timestep, so that the first frame can be given (TI2V)."""
    return bool(checkpoint.index.get("expand_timesteps"))


def _settings(kind: type, config: dict[str, Any]) -> SimpleNamespace:
    parameters = inspect.signature(kind).parameters.values()
    return SimpleNamespace(**{p.name: config.get(p.name, p.default) for p in parameters})
