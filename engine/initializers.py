"""How the initializers of exported graphs are named: after the checkpoint's parameters.

`model.blocks.0.attn1.to_v.weight.transposed.half` is the parameter `blocks.0.attn1.to_v.weight`,
stored transposed, in half precision behind a `Cast` to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

OWNER = "model."
TRANSPOSED = ".transposed"
HALF = ".half"


@dataclass(frozen=True)
class InitializerName:
    """What the name of an initializer says.

    Attributes:
        parameter: the checkpoint's name of it.
        transposed: its axes are reversed.
        half: stored in half precision for a graph that computes in float32.
    """

    parameter: str
    transposed: bool
    half: bool

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name; `None` for a constant, which is no parameter of the checkpoint."""
        if not name.startswith(OWNER):
            return None
        plain = name.removeprefix(OWNER).removesuffix(HALF)
        parameter = plain.removesuffix(TRANSPOSED)
        return cls(parameter, parameter != plain, name.endswith(HALF))
