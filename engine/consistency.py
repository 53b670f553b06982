"""Whether the parts of a `bundle.json` agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .manifest import Axis, GraphSpec, Manifest


def inconsistencies(manifest: Manifest) -> Iterator[str]:
    """What is wrong with a manifest, a clause each."""
    named = [manifest.text.tokenizer]
    for graph in manifest.graphs.values():
        named += [graph.file, *graph.data]
    for preset in manifest.presets.values():
        named += preset.loras
    yield from (
        f"{name!r} is named but not listed in `files`"
        for name in named
        if name not in manifest.files
    )
    if "full" in manifest.presets:
        yield "a preset may not be called 'full', as the default request is"
    latents = manifest.latents
    lengths = {len(latents.mean), len(latents.std), *map(len, latents.preview.matrix)}
    if lengths != {latents.channels}:
        yield f"latent statistics or preview are not of {latents.channels} channels"
    if "denoiser" not in manifest.graphs:
        yield "no graph named 'denoiser'"
        return
    denoiser = manifest.graphs["denoiser"]
    if (manifest.denoiser.image == "first_frame") != _by_frame(denoiser):
        yield "the denoiser's timestep is not as `denoiser.image` says"
    if _channels(denoiser) not in {None, _wanted_channels(manifest)}:
        yield "the denoiser's channels are not as `denoiser.image` says"
    second = manifest.graphs.get("denoiser_2")
    if (second is not None) != (manifest.denoiser.boundary is not None):
        yield "a graph 'denoiser_2' and `denoiser.boundary` go together, one of them is missing"
    if second and (second.inputs, second.outputs) != (denoiser.inputs, denoiser.outputs):
        yield "the two denoisers differ in their inputs or outputs"


def _channels(denoiser: GraphSpec) -> Axis | None:
    """How many a denoiser takes, of the noise and of what lies beside it; `None`: it takes none."""
    shapes = [spec.shape for spec in denoiser.inputs if spec.name == "hidden_states"]
    return shapes[0][1] if shapes and len(shapes[0]) > 1 else None


def _wanted_channels(manifest: Manifest) -> int:
    latents = manifest.latents
    if manifest.denoiser.image == "channels":
        return 2 * latents.channels + latents.temporal_compression
    return latents.channels


def _by_frame(denoiser: GraphSpec) -> bool:
    """Whether a denoiser takes a timestep for each latent frame, and not one for all."""
    return any(spec.name == "timestep" and len(spec.shape) == 2 for spec in denoiser.inputs)
