"""Families of checkpoints: one module each, found by the class their model_index.json names."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Protocol

from ...engine.manifest import Defaults, Precision, PreviewSpec
from ...errors import CheckpointError
from ..checkpoint import Checkpoint
from ..facts import Facts
from ..graph import Graph
from ..verify import Reference


class Family(Protocol):
    """What export knows of a family. A module of this package has one as `FAMILY`.

    Every method raises `CheckpointError` for a checkpoint it cannot take.
    """

    name: str
    pipelines: tuple[str, ...]

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse what is not supported, from its JSON alone: the weights may not be there yet."""

    def defaults(self, checkpoint: Checkpoint) -> Defaults:
        """The default request of its bundle."""

    def graphs(self, checkpoint: Checkpoint, precision: Precision) -> tuple[Graph, ...]:
        """All the graphs of the checkpoint."""

    def facts(self, checkpoint: Checkpoint) -> Facts:
        """What the bundle says of the model."""

    def preview(self, checkpoint: Checkpoint) -> PreviewSpec:
        """The map from latents to RGB, fitted to the VAE."""

    def reference(self, checkpoint: Checkpoint) -> Reference:
        """The family's own code, to compare a bundle with."""


def find(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint.

    Raises:
        CheckpointError: none knows its pipeline.
    """
    families = _families()
    if checkpoint.pipeline not in families:
        raise CheckpointError(
            f"{checkpoint.path} is a checkpoint of {checkpoint.pipeline or 'no pipeline'}, "
            f"which cannot be exported (known: {', '.join(sorted(families))})"
        )
    return families[checkpoint.pipeline]


def _families() -> dict[str, Family]:
    found: list[Family] = [
        import_module(f"{__name__}.{module.name}").FAMILY
        for module in pkgutil.iter_modules(__path__)
    ]
    return {pipeline: family for family in found for pipeline in family.pipelines}
