"""The default request of a bundle: the family's, changed by `KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..engine.manifest import Defaults
from ..errors import UserError, unknown
from .facts import Facts


def change_defaults(defaults: Defaults, changes: Sequence[str]) -> Defaults:
    """Apply `KEY=VALUE` texts, such as `width=64`.

    Raises:
        UserError: not of that form, an unknown key, or a value that does not suit it.
    """
    values = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    if any(change.startswith("guidance_scale=") for change in changes):
        values["guidance_scale_2"] = None  # the same, as in a request
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--default {change}: KEY=VALUE is needed, as in width=64")
        if key not in values:
            raise UserError(unknown("default", key, values))
        values[key] = value
    try:
        return msgspec.convert(values, Defaults, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"--default: {error}") from None


def check_defaults(defaults: Defaults, facts: Facts) -> None:
    """Refuse a default request that the model cannot serve.

    Raises:
        UserError: a size that is no multiple of the model's or beyond its limits; a second guidance
            scale where there is one denoiser.
    """
    latents, limits = facts.latents, facts.limits
    if defaults.guidance_scale_2 is not None and facts.denoiser.boundary is None:
        raise UserError(
            "guidance_scale_2 is for a checkpoint with two transformers, this one has one; "
            "change --default guidance_scale=N"
        )
    _, patch_height, patch_width = latents.patch_size
    _check_size("width", defaults.width, patch_width * latents.spatial_compression)
    _check_size("height", defaults.height, patch_height * latents.spatial_compression)
    if (defaults.frames - 1) % latents.temporal_compression:
        raise UserError(
            f"the default of frames, {defaults.frames}, is no multiple of "
            f"{latents.temporal_compression} plus 1; change it with --default frames=N"
        )
    for key in ("width", "height", "frames"):
        value, largest = getattr(defaults, key), getattr(limits, f"max_{key}")
        if value > largest:
            raise UserError(
                f"the default of {key}, {value}, is more than the {largest} that this checkpoint "
                f"takes; change it with --default {key}=N"
            )


def _check_size(key: str, value: int, step: int) -> None:
    if value % step:
        raise UserError(
            f"the default of {key}, {value}, is no multiple of {step}; "
            f"change it with --default {key}=N"
        )
