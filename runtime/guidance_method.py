"""How guidance joins the two predictions of a step, as a request names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, unknown
from ..kernels.guidance_weights import Projected, Variant, ZeroStar
from . import checks

OPTIONS: dict[str, tuple[str, ...]] = {
    "cfg": (),
    "cfg-zero": ("zero_init_steps",),
    "apg": ("apg_eta", "apg_norm_threshold"),
}
"""The methods, and what else each of them takes."""
MOST = 1e9
"""The norm of any clip's latents is far below it."""


@dataclass(frozen=True)
class Method:
    """A method and its own options; those of others are `None`."""

    guidance_method: str
    zero_init_steps: int | None = None
    apg_eta: float | None = None
    apg_norm_threshold: float | None = None


def settle_method(asked: Mapping[str, Any], steps: int, *, guided: bool) -> Method:
    """The method of a request.

    Args:
        asked: the request's fields; what is not there has its default.
        steps: of the clip.
        guided: whether any step has a guidance scale above 1.

    Raises:
        UserError: no such method, one without guidance, or an option of another.
    """
    name = checks.text("guidance_method", asked.get("guidance_method", "cfg"), 100)
    if name not in OPTIONS:
        raise UserError(unknown("guidance_method", name, OPTIONS))
    for other, options in OPTIONS.items():
        for option in options:
            if option in asked and other != name:
                raise UserError(f"{option} is for guidance_method {other}, not for {name}")
    if name != "cfg" and not guided:
        raise UserError(
            f"guidance_method {name} needs guidance: give a guidance_scale above 1, or choose "
            "another preset, e.g. full"
        )
    if name == "cfg-zero":
        still = asked.get("zero_init_steps", min(1, steps - 1))
        return Method(name, checks.integer("zero_init_steps", still, 0, steps - 1))
    if name == "apg":
        eta = checks.number("apg_eta", asked.get("apg_eta", 0.0), 0, 1)
        threshold = asked.get("apg_norm_threshold", 0.0)
        return Method(
            name,
            apg_eta=eta,
            apg_norm_threshold=checks.number("apg_norm_threshold", threshold, 0, MOST),
        )
    return Method(name)


def variant_of(method: str, eta: float | None, norm_threshold: float | None) -> Variant | None:
    """What weighs the predictions; `None` for plain guidance."""
    if method == "apg":
        return Projected(eta or 0.0, norm_threshold or 0.0)
    return ZeroStar() if method == "cfg-zero" else None
