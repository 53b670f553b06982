"""Measurements taken earlier, to set new ones against."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .measure import Measurement

SETTINGS = (
    "bundle", "precision", "backend", "preset", "threads", "width", "height", "frames",
    "steps", "guidance_scale", "guidance_scale_2", "guidance_method", "zero_init_steps", "apg_eta",
    "apg_norm_threshold", "guidance_rescale", "guidance_interval", "step_cache", "scheduler",
    "shift", "shift_terminal", "sigmas", "vae_tile",
)  # fmt: skip
"""The facts that two runs must share to be set against each other."""
LATER = {
    "guidance_scale_2": None, "guidance_method": "cfg", "zero_init_steps": None, "apg_eta": None,
    "apg_norm_threshold": None, "guidance_rescale": 0.0, "shift_terminal": None, "sigmas": "",
    "vae_tile": 0,
}  # fmt: skip
"""What older files do not say."""


@dataclass(frozen=True)
class Ratio:
    """How many times as long something takes as it took, and the standard deviation of that."""

    value: float
    spread: float


class Baseline:
    """What `mutoscope bench -o json` wrote earlier."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            UserError: it cannot be read, or is none of these.
        """
        try:
            whole = json.loads(path.read_text())
            self._taken = {
                _key({**whole, **run}, record["stage"]): _moments(record["seconds"])
                for run in whole["runs"]
                for record in run["measurements"]
            }
            self.cpu = str(whole["cpu"])
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, ZeroDivisionError):
            raise UserError(
                f"{path} is not what mutoscope bench -o json writes; make it so: "
                f"mutoscope bench -o json > {path.name}"
            ) from None

    def knows(self, facts: dict[str, Any], stage: str) -> bool:
        """Whether the stage was measured with these settings."""
        return _key(facts, stage) in self._taken

    def ratio(self, facts: dict[str, Any], new: Measurement) -> Ratio | None:
        """The new time over the old, or None where that was not measured with these settings."""
        old = self._taken.get(_key(facts, new.stage))
        if old is None:
            return None
        value = new.mean / old[0]
        return Ratio(value, value * math.hypot(new.deviation / new.mean, old[1] / old[0]))


def _key(facts: dict[str, Any], stage: str) -> tuple[Any, ...]:
    said = {**LATER, **facts}
    return (stage, *(said[name] for name in SETTINGS))


def _moments(seconds: list[float]) -> tuple[float, float]:
    measured = Measurement("", tuple(seconds), "")
    return measured.mean, measured.deviation
