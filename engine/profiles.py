"""The shapes an engine is built for: from the clips it is to make to the axes of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import MutoscopeError
from .manifest import DENOISERS, GraphSpec, Manifest
from .spec import AxisRange, Profile

GUIDED_BATCH = 2
"""With classifier-free guidance, both predictions of a step may go through in one batch."""

USUAL_PROMPT_TOKENS = 32


@dataclass(frozen=True)
class LatentSize:
    """One clip to make, as the denoiser sees it."""

    frames: int
    height: int
    width: int

    @classmethod
    def default(cls, manifest: Manifest) -> LatentSize:
        """The size of a request that does not say."""
        wanted, latents = manifest.defaults, manifest.latents
        return cls(
            (wanted.frames - 1) // latents.temporal_compression + 1,
            wanted.height // latents.spatial_compression,
            wanted.width // latents.spatial_compression,
        )


def profile(
    manifest: Manifest, name: str, sizes: Sequence[LatentSize], *, batched: bool = True
) -> Profile:
    """The named axes of a graph, for clips between the smallest and the largest of some.

    The first size is the usual one, which an engine is tuned for. A denoiser always gets its
    prompt padded to the full length; only the text encoder sees prompts as long as they are. Where
    guidance is not `batched`, no memory is kept for both predictions of a step at once.

    Raises:
        MutoscopeError: the graph has an axis of an unknown name.
    """
    longest = manifest.text.max_tokens
    known: dict[str, AxisRange] = {
        "batch": (1, 1, 1),
        "tokens": (longest, longest, longest),
        "latent_frames": _range(size.frames for size in sizes),
        "latent_height": _range(size.height for size in sizes),
        "latent_width": _range(size.width for size in sizes),
    }
    wanted = manifest.defaults
    guided = max(wanted.guidance_scale, wanted.guidance_scale_2 or 0) > 1
    if batched and guided and name in DENOISERS:
        known["batch"] = (1, GUIDED_BATCH, GUIDED_BATCH)
    if name == "text_encoder":
        known["tokens"] = (1, min(USUAL_PROMPT_TOKENS, longest), longest)
    try:
        return {axis: known[axis] for axis in sorted(named_axes(manifest.graphs[name]))}
    except KeyError as error:
        raise MutoscopeError(f"{name} has an axis {error}, which no profile is known for") from None


def profile_around(manifest: Manifest, name: str, axes: dict[str, int]) -> Profile:
    """The profile of a clip whose graph has axes of these lengths, which are its usual ones."""
    size = LatentSize.default(manifest)
    clip = LatentSize(
        axes.get("latent_frames", size.frames),
        axes.get("latent_height", size.height),
        axes.get("latent_width", size.width),
    )
    return {
        axis: (min(low, axes[axis]), axes[axis], max(high, axes[axis]))
        for axis, (low, _, high) in profile(manifest, name, [clip]).items()
    }


def named_axes(graph: GraphSpec) -> set[str]:
    """The names of a graph's dynamic axes; `8*height` is `height`."""
    axes = (axis for tensor in graph.inputs for axis in tensor.shape)
    return {axis.rpartition("*")[2] for axis in axes if isinstance(axis, str)}


def _range(lengths: Iterable[int]) -> AxisRange:
    values = list(lengths)
    return min(values), values[0], max(values)
