"""The state of a training under way: everything that the next step depends on, in one file.

Noise and data are functions of the seed and the step, so that no generator has a state to keep.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...engine.folders import write_whole
from ...errors import UserError
from .optimizers import Optimizer

FILE = "state.safetensors"


@dataclass
class Clock:
    """How far a training is: steps taken, and seconds spent over all of its runs."""

    step: int = 0
    seconds: float = 0.0


def save_state(
    folder: Path,
    clock: Clock,
    parameters: Sequence[Tensor],
    average: Sequence[Tensor],
    optimizer: Optimizer,
) -> None:
    """Write the state; one that is already there stays until the new one is whole."""
    tensors = {f"parameter.{i}": tensor for i, tensor in enumerate(parameters)}
    tensors |= {f"average.{i}": tensor for i, tensor in enumerate(average)}
    for i, moments in optimizer.moments().items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    told = {"step": str(clock.step), "seconds": json.dumps(clock.seconds)}
    write_whole(folder / FILE, save(plain, metadata=told))


def load_state(
    folder: Path,
    parameters: Sequence[Tensor],
    average: Sequence[Tensor],
    optimizer: Optimizer,
) -> Clock:
    """Take up the state that lies in the folder; a fresh clock where there is none.

    Raises:
        UserError: the file is damaged, or of another model.
    """
    path = folder / FILE
    if not path.exists():
        return Clock()
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            told = file.metadata()
            for i, (parameter, mean) in enumerate(zip(parameters, average, strict=True)):
                parameter.copy_(file.get_tensor(f"parameter.{i}"))
                mean.copy_(file.get_tensor(f"average.{i}"))
            optimizer.remember(_moments(file, parameters))
            clock = Clock(int(told["step"]), float(told["seconds"]))
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); remove it, the stage then begins anew"
        ) from None
    return clock


def _moments(file: Any, parameters: Sequence[Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimizer's moments, laid out in memory as the parameters are."""
    found: dict[int, dict[str, Tensor]] = {}
    for key in file.keys():  # noqa: SIM118  not a mapping
        kind, number, *rest = key.split(".")
        if kind == "optimizer":
            tensor = file.get_tensor(key)
            like = parameters[int(number)]
            placed = torch.empty_like(like) if tensor.shape == like.shape else None
            kept = tensor.to(like.device) if placed is None else placed.copy_(tensor)
            found.setdefault(int(number), {})[rest[0]] = kept
    return found
