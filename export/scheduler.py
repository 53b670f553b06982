"""The scheduler a checkpoint was published with → ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.manifest import SchedulerSpec
from ..errors import CheckpointError
from .checkpoint import Checkpoint, read_json

FILE = "scheduler_config.json"


@dataclass(frozen=True)
class Kind:
    """One of diffusers' schedulers: our name for it, and the settings ours is written for."""

    name: str
    shift: str
    needed: dict[str, Any]


PLAIN = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
FLOW = {
    **PLAIN,
    "shift_terminal": None,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "solver_order": 2,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "thresholding": False,
}
KINDS = {
    "FlowMatchEulerDiscreteScheduler": Kind(
        "euler",
        "shift",
        {
            **PLAIN,
            "use_dynamic_shifting": False,
            "stochastic_sampling": False,
            "invert_sigmas": False,
        },
    ),
    "UniPCMultistepScheduler": Kind(
        "unipc", "flow_shift", {**FLOW, "solver_type": "bh2", "predict_x0": True}
    ),
    "DPMSolverMultistepScheduler": Kind(
        "dpmpp-2m",
        "flow_shift",
        {
            **FLOW,
            "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint",
            "euler_at_final": False,
        },
    ),
}


def scheduler(checkpoint: Checkpoint) -> SchedulerSpec:
    """What the manifest says of a checkpoint's scheduler.

    Raises:
        CheckpointError: a scheduler, or a setting of one, that has no counterpart.
    """
    path = checkpoint.folder("scheduler") / FILE
    config = read_json(path)
    kind = KINDS.get(str(config.get("_class_name")))
    if kind is None:
        raise CheckpointError(
            f"{path}: {config.get('_class_name')} has no counterpart (known: {', '.join(KINDS)})"
        )
    for problem in _differences(config, kind):
        raise CheckpointError(f"{path}: {problem}")
    return SchedulerSpec(
        name=kind.name,
        shift=float(config.get(kind.shift, 1.0)),
        shift_terminal=_terminal(config.get("shift_terminal"), path),
        train_timesteps=int(config.get("num_train_timesteps", 1000)),
    )


def _terminal(value: Any, path: Path) -> float | None:
    """The last sigma before 0, where a file sets one; 0 sets none, as in diffusers."""
    if not value:
        return None
    if not isinstance(value, float) or not 0 < value < 1:
        raise CheckpointError(f"{path}: shift_terminal is {value!r}; it must lie between 0 and 1")
    return value


def _differences(config: dict[str, Any], kind: Kind) -> Iterator[str]:
    for key, wanted in kind.needed.items():
        value = config.get(key, _default(kind, key))
        if value != wanted:
            yield f"{key} is {value!r}; only {wanted!r} is supported"


def _default(kind: Kind, key: str) -> Any:
    """What diffusers takes where a file does not say: as needed, but for those of the flow."""
    return {"prediction_type": "epsilon", "use_flow_sigmas": False}.get(key, kind.needed[key])
