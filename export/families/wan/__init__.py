"""Wan: UMT5, a DiT over patches of latents (two in A14B), a causal video VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .check import check

if TYPE_CHECKING:
    from ....engine.manifest import Defaults, Precision, PreviewSpec
    from ...checkpoint import Checkpoint
    from ...facts import Facts
    from ...graph import Graph
    from ...verify import Reference


class Wan:
    """Checkpoints of diffusers' Wan pipelines; PyTorch is imported only where it is needed."""

    name = "wan"
    pipelines = ("WanPipeline", "WanImageToVideoPipeline")

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse what is damaged, and what is of another build than those published."""
        check(checkpoint)

    def defaults(self, checkpoint: Checkpoint) -> Defaults:
        """What the model was published with."""
        from .describe import defaults

        return defaults(checkpoint)

    def graphs(self, checkpoint: Checkpoint, precision: Precision) -> tuple[Graph, ...]:
        """Encoders of text and image, one denoiser or two, the VAE's decoder and encoder."""
        from .graphs import graphs

        return graphs(checkpoint, precision)

    def facts(self, checkpoint: Checkpoint) -> Facts:
        """What the bundle says of the model."""
        from .describe import facts

        return facts(checkpoint)

    def preview(self, checkpoint: Checkpoint) -> PreviewSpec:
        """The map from latents to RGB, fitted to the VAE's encoder."""
        from .preview import fit

        return fit(checkpoint)

    def reference(self, checkpoint: Checkpoint) -> Reference:
        """`WanPipeline` in fp32, and `WanImageToVideoPipeline` for what takes an image."""
        from .reference import WanReference

        return WanReference(checkpoint)


FAMILY = Wan()
