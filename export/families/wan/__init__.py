"""Wan text-to-video: UMT5, a DiT over patches of latents, a causal video VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....engine.manifest import Defaults
from .check import check

if TYPE_CHECKING:
    from ....engine.manifest import Precision, PreviewSpec
    from ...checkpoint import Checkpoint
    from ...facts import Facts
    from ...graph import Graph
    from ...verify import Reference


class Wan:
    """Checkpoints of diffusers' `WanPipeline`; PyTorch is imported only where it is needed."""

    name = "wan"
    pipeline = "WanPipeline"
    defaults = Defaults(width=832, height=480, frames=81, fps=16, steps=50, guidance_scale=5.0)

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse what is damaged, and what is not Wan 2.1 text-to-video."""
        check(checkpoint)

    def graphs(self, checkpoint: Checkpoint, precision: Precision) -> tuple[Graph, ...]:
        """Text encoder, denoiser, and two calls each of the VAE's decoder and encoder."""
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
        """`WanPipeline` in fp32."""
        from .reference import WanReference

        return WanReference(checkpoint)


FAMILY = Wan()
