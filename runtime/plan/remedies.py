"""What would fit, where a clip fits nowhere: the nearest of each kind, in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .machine import Machine
from .placement import Placement, backends, place
from .stages import Stages

SHARES = (0.75, 0.5, 0.25)
"""Of the sides, and of the latent frames, that are tried."""


@dataclass(frozen=True)
class Remedies:
    """The nearest that would fit; `None` where nothing of a kind does.

    Attributes:
        vram: bytes of a GPU, with what is named under `Machine.ram`, or with `vram_ram`.
        vram_ram: bytes of memory that go with it.
        ram: bytes of memory, without a GPU.
        size: width and height in pixels.
        frames: how many.
        precision: of the weights: an estimate.
    """

    vram: int | None
    vram_ram: int | None
    ram: int
    size: tuple[int, int] | None
    frames: int | None
    precision: str | None


def find_remedies(
    stages: Stages,
    machine: Machine,
    nearest: Mapping[str, Placement],
    estimates: Mapping[str, Sequence[Placement]],
) -> Remedies:
    """Look for what would fit.

    Args:
        stages: of the clip that does not.
        machine: that it does not fit.
        nearest: the placements that were tried, by backend.
        estimates: those of other precisions.
    """
    *gpu, cpu = nearest.values()
    sizes, lengths = _smaller(stages), _shorter(stages)
    return Remedies(
        vram=gpu[0].vram if gpu else None,
        vram_ram=gpu[0].ram if gpu else None,
        ram=cpu.ram,
        size=next((size for size in sizes if _fits(stages, machine, *size, None)), None),
        frames=next((n for n in lengths if _fits(stages, machine, None, None, n)), None),
        precision=next((p for p, each in estimates.items() if any(e.fits for e in each)), None),
    )


def _fits(
    stages: Stages, machine: Machine, width: int | None, height: int | None, frames: int | None
) -> bool:
    settings = stages.settings
    other = stages.resized(
        width or settings.width, height or settings.height, frames or settings.frames
    )
    return any(place(other, machine, backend).fits for backend in backends(other.manifest, machine))


def _smaller(stages: Stages) -> Iterator[tuple[int, int]]:
    """Sizes of about the same form, the largest first, that the bundle can make."""
    latents, settings = stages.manifest.latents, stages.settings
    _, rows, columns = (latents.spatial_compression * patch for patch in latents.patch_size)
    for share in SHARES:
        width, height = int(settings.width * share), int(settings.height * share)
        if width >= columns and height >= rows:
            yield width // columns * columns, height // rows * rows


def _shorter(stages: Stages) -> Iterator[int]:
    """Numbers of frames, the largest first, down to one."""
    compression = stages.manifest.latents.temporal_compression
    further = stages.settings.latent_shape[2] - 1
    fewer = {int(further * share) for share in (*SHARES, 0)} - {further}
    yield from (1 + compression * count for count in sorted(fewer, reverse=True))
