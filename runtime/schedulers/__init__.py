"""Schedulers: how the latents move from one sigma to the next, by the velocity predicted there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import UserError, unknown
from .. import checks
from .base import Schedule, Scheduler
from .dpmpp_2m import DPMpp2M
from .euler import Euler
from .unipc import UniPC

__all__ = ["SCHEDULERS", "DPMpp2M", "Euler", "Schedule", "Scheduler", "UniPC", "get_scheduler"]

SCHEDULERS: Mapping[str, type[Scheduler]] = MappingProxyType(
    {"dpmpp-2m": DPMpp2M, "euler": Euler, "unipc": UniPC}
)


def get_scheduler(
    name: str,
    shift: float,
    train_timesteps: int = 1000,
    terminal: float | None = None,
    sigmas: tuple[float, ...] | None = None,
) -> Scheduler:
    """The scheduler of that name.

    Args:
        name: a key of `SCHEDULERS`.
        shift: of the sigmas, 0.01 to 1000; a larger one spends more steps on high noise.
        train_timesteps: what a sigma of 1 is to the denoiser.
        terminal: Euler's last sigma before 0; the others have steps of their own down there.
        sigmas: Euler's own, before the shift; others have none.

    Raises:
        UserError: no scheduler of that name, a shift out of range, or sigmas for one without.
    """
    if name not in SCHEDULERS:
        raise UserError(unknown("scheduler", name, SCHEDULERS))
    checked = checks.number("shift", shift, 0.01, 1000)
    if name == "euler":
        return Euler(checked, train_timesteps, terminal, sigmas)
    if sigmas is not None:
        raise UserError(f"sigmas are for the scheduler euler, not for {name}")
    return SCHEDULERS[name](checked, train_timesteps)
