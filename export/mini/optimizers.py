"""What turns gradients into steps: Muon for the matrices of hidden layers, AdamW for all else.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; its steps are
scaled to the size of AdamW's, after Liu et al. 2025, "Muon is Scalable for LLM Training".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .recipe import Optimisation

BETAS = (0.9, 0.99)
MOMENTUM = 0.95
MUON_RATE = 3.0
"""How much larger Muon's steps are than AdamW's; what a tiny model bears, a large one may not."""


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike.

    Attributes:
        parameters: in an order that does not change.
        rate: a factor on the learning rate.
        hidden: whether they are matrices of hidden layers.
    """

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    hidden: bool = False


class Optimizer:
    """One or two of PyTorch's optimizers, as one."""

    def __init__(self, groups: Sequence[Group], settings: Optimisation) -> None:
        self.parameters = [p for group in groups for p in group.parameters]
        decay = settings.weight_decay
        hidden = [_named(group, MUON_RATE) for group in groups if group.hidden]
        others = [_named(group, 1.0) for group in groups if not group.hidden]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, betas=BETAS, weight_decay=decay, fused=True)
        ]
        if hidden:
            self.parts.append(
                torch.optim.Muon(
                    hidden,
                    momentum=MOMENTUM,
                    weight_decay=decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self, learning_rate: float) -> None:
        """Take one step at a learning rate, which the groups' own factors scale."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["factor"] * learning_rate
            part.step()

    def moments(self) -> dict[int, dict[str, torch.Tensor]]:
        """What it remembers of each parameter, by its place in `parameters`."""
        places: dict[torch.Tensor, int] = {p: i for i, p in enumerate(self.parameters)}
        return {
            places[parameter]: dict(kept)
            for part in self.parts
            for parameter, kept in part.state.items()
        }

    def remember(self, moments: dict[int, dict[str, torch.Tensor]]) -> None:
        """Go on from what `moments` gave."""
        for part in self.parts:
            own = {p for group in part.param_groups for p in group["params"]}
            for i, kept in moments.items():
                if (parameter := self.parameters[i]) in own:
                    part.state[parameter] = kept


def _named(group: Group, factor: float) -> dict[str, Any]:
    return {"params": list(group.parameters), "factor": factor * group.rate}
