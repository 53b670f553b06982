"""What a clip takes before it is made: memory, disk, and where and how it fits a machine.

`stages` adds up what the graphs of each stage take, `ways` are the ways to run one, `placement`
takes the fastest that fits, and `remedies` says what would where nothing does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

from ...engine import Bundle
from ...engine.lora import Lora, memory
from ...engine.manifest import DENOISERS, TEXT_ENCODER
from ...engine.planner import Needs, build_memory, in_precision, needs
from ...engine.presets import preset_loras
from ..request import Settings
from .machine import Machine, enough, shown
from .placement import Placement, backends, place, unaided
from .remedies import Remedies, find_remedies
from .stages import Stages, Tell
from .ways import ONNXRUNTIME, TENSORRT

__all__ = [
    "ONNXRUNTIME", "TENSORRT", "Machine", "Placement", "Plan", "Remedies", "enough", "make_plan",
    "shown",
]  # fmt: skip

ESTIMATED = {
    "fp32": {"fp16": (TENSORRT,), "int8": (TENSORRT, ONNXRUNTIME), "int4": (ONNXRUNTIME,)},
    "fp16": {"int8": (TENSORRT, ONNXRUNTIME), "int4": (ONNXRUNTIME,)},
}
"""For a bundle's own precision the others, and the backends for which there is a way to them."""

FEWER_BITS = ("int8", "int4")
TEXT_PRECISIONS = {TENSORRT: (None, *FEWER_BITS), ONNXRUNTIME: FEWER_BITS}
"""Of the text encoder on the CPU, beside denoisers that `quantize` makes for a backend."""


@dataclass(frozen=True)
class Plan:
    """What a clip takes, in bytes, and how it fits.

    Attributes:
        stages: of the clip.
        machine: what there is.
        precision: of the bundle.
        disk: of the bundle.
    """

    stages: Stages
    machine: Machine
    precision: str
    disk: int

    @property
    def settings(self) -> Settings:
        """Of the clip."""
        return self.stages.settings

    @property
    def batched(self) -> bool:
        """Whether both predictions of a step go through at once, with no measure taken."""
        return self.stages.batched(self.machine.vram or self.machine.ram)

    @cached_property
    def graphs(self) -> dict[str, Needs]:
        """What each graph takes, with no measure taken."""
        stages = self.stages
        *_, last = decoder = stages.decoder(self.settings.vae_tile)
        first = decoder[0] | last
        return {
            **stages.text(), **stages.image(), **stages.denoiser(batched=self.batched), **first
        }  # fmt: skip

    @property
    def ram(self) -> int:
        """The peak of a process with ONNX Runtime on the CPU, with no measure taken."""
        return unaided(self.stages, self.machine, ONNXRUNTIME).ram

    @property
    def ram_kept_open(self) -> int:
        """The same where engines wait for the next clip."""
        return self.stages.ram(self.graphs, self.settings.vae_tile)

    @property
    def vram(self) -> int:
        """The peak on a GPU with no measure taken: an estimate."""
        return unaided(self.stages, self.machine, TENSORRT).vram

    @property
    def engines(self) -> int:
        """Disk that TensorRT engines take, about: their weights; two experts are alike."""
        experts = sum(name in self.stages.manifest.graphs for name in DENOISERS)
        copies = {DENOISERS[0]: experts}
        return sum(n.gpu.weights * copies.get(name, 1) for name, n in self.graphs.items())

    @property
    def build_ram(self) -> int:
        """Memory that building the largest engine takes, roughly."""
        return build_memory(max(n.gpu.weights for n in self.graphs.values()))

    @cached_property
    def placements(self) -> dict[str, Placement]:
        """By backend, the fastest first; where nothing fits, what is nearest."""
        return {name: place(self.stages, self.machine, name) for name in self._backends}

    @property
    def chosen(self) -> Placement | None:
        """The first that fits."""
        return next((placed for placed in self.placements.values() if placed.fits), None)

    @cached_property
    def estimates(self) -> dict[str, list[Placement]]:
        """What other precisions would take, where the bundle is not quantized."""
        return {
            precision: [
                place(self._in(precision, name), self.machine, name)
                for name in self._backends
                if name in changed
            ]
            for precision, changed in ESTIMATED.get(self.precision, {}).items()
        }

    def remedies(self) -> Remedies:
        """What would fit; for a clip that does not."""
        return find_remedies(self.stages, self.machine, self.placements, self.estimates)

    @property
    def _backends(self) -> tuple[str, ...]:
        return backends(self.stages.manifest, self.machine)

    def _in(self, precision: str, backend: str) -> Stages:
        """The stages in another precision, as `export` or `quantize` makes it for a backend.

        The text encoder's weights are quantized for the CPU alone, each time it is told of there.
        """
        stages, exported = self.stages, precision == "fp16"

        def tell(name: str, axes: Mapping[str, int], runs: int) -> Needs:
            needed = stages.tell(name, axes, runs)
            if name == TEXT_ENCODER and not exported:
                return needed
            return in_precision(needed, name, precision)

        text = stages.text_precisions if exported else TEXT_PRECISIONS[backend]
        return replace(stages, tell=tell, text_precisions=text)


def make_plan(
    bundle: Bundle, settings: Settings, machine: Machine, loras: Sequence[Lora] = ()
) -> Plan:
    """Predict what a clip takes, with the longest prompt there may be.

    Args:
        bundle: with the preset that was chosen.
        settings: of the clip.
        machine: what it is to run on.
        loras: besides the preset's.

    Raises:
        BundleError: a graph that a clip needs is missing or no ONNX file.
        MissingExtraError: the package `protobuf` is not installed.
        MutoscopeError: a graph has an operator that the planner does not know.
    """
    disk = sum(file.size for file in bundle.manifest.files.values())
    loras = (*preset_loras(bundle), *loras)
    denoisers = [name for name in DENOISERS if loras and name in bundle.manifest.graphs]
    added = max((memory(bundle, name, loras) for name in denoisers), default=0)
    stages = Stages(bundle.manifest, settings, told_once(partial(needs, bundle)), added)
    return Plan(stages, machine, bundle.precision, disk)


def told_once(tell: Tell) -> Tell:
    """The same; what was told is kept."""

    @cache
    def kept(name: str, axes: tuple[tuple[str, int], ...], runs: int) -> Needs:
        return tell(name, dict(axes), runs)

    return lambda name, axes, runs: kept(name, tuple(axes.items()), runs)
