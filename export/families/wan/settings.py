"""The settings of Wan's components, with the defaults of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

from ....errors import CheckpointError
from ...checkpoint import Checkpoint, Component, read_json

TRANSFORMERS = ("transformer", "transformer_2")
"""The folders of the denoisers, in the order of the bundle's `DENOISERS`."""


def transformer(checkpoint: Checkpoint, name: str = "transformer") -> SimpleNamespace:
    """As `WanTransformer3DModel(...)` takes them."""
    from diffusers import WanTransformer3DModel

    return _settings(WanTransformer3DModel, checkpoint.config(name))


def two_experts(checkpoint: Checkpoint) -> bool:
    """Whether there is a second transformer, for the timesteps below `boundary_ratio`."""
    return checkpoint.has("transformer_2")


def vae(checkpoint: Checkpoint) -> SimpleNamespace:
    """As `AutoencoderKLWan(...)` takes them."""
    from diffusers import AutoencoderKLWan

    return _settings(AutoencoderKLWan, checkpoint.config("vae"))


def image_way(checkpoint: Checkpoint) -> Literal["first_frame", "channels"] | None:
    """How an image is taken: as the first frame, with its own timestep (TI2V), or as channels."""
    if checkpoint.index.get("expand_timesteps"):
        return "first_frame"
    return "channels" if checkpoint.pipeline == "WanImageToVideoPipeline" else None


def input_channels(checkpoint: Checkpoint) -> int:
    """What the transformer has to take: latents, and beside them an image's mask and latents."""
    config = vae(checkpoint)
    channels: int = config.z_dim
    if image_way(checkpoint) == "channels":
        channels += config.scale_factor_temporal + config.z_dim
    return channels


def image_embedded(checkpoint: Checkpoint) -> bool:
    """Whether the transformer attends to an embedding of the image too, as that of Wan 2.1 does."""
    return transformer(checkpoint).image_dim is not None


def image_tokens(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """Of the image encoder: pixels on a side, tokens of an image, and their channels."""
    from transformers import CLIPVisionConfig

    component = Component(checkpoint.folder("image_encoder"))
    with described_by(component):
        config = CLIPVisionConfig(**component.config)
    patches: int = (config.image_size // config.patch_size) ** 2
    return config.image_size, patches + 1, config.hidden_size


def image_statistics(checkpoint: Checkpoint) -> tuple[list[float], list[float]]:
    """Mean and deviation of each colour, by which the image encoder's input is normalised.

    Raises:
        CheckpointError: the image processor does not say.
    """
    path = checkpoint.folder("image_processor") / "preprocessor_config.json"
    config = read_json(path)
    try:
        mean, std = ([float(v) for v in config[key]] for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError):
        mean = std = []
    if not len(mean) == len(std) == len("RGB"):
        raise CheckpointError(
            f"{path} lacks image_mean or image_std, three numbers each; "
            "download the checkpoint again"
        )
    return mean, std


@contextmanager
def described_by(component: Component) -> Iterator[None]:
    """A model's constructor may raise anything when its configuration is wrong.

    Raises:
        CheckpointError: it did.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{component.folder / 'config.json'} does not describe a model ({reason}); "
            "download the checkpoint again"
        ) from error


def _settings(kind: type, config: dict[str, Any]) -> SimpleNamespace:
    parameters = inspect.signature(kind).parameters.values()
    return SimpleNamespace(**{p.name: config.get(p.name, p.default) for p in parameters})
