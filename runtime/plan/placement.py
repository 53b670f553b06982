"""Where a clip's stages run and how: for each the fastest way that fits a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...engine.manifest import Manifest
from .machine import Machine
from .stages import Stages
from .ways import ONNXRUNTIME, TENSORRT, Measure, Way, ways


@dataclass(frozen=True)
class Placement:
    """A way for each stage of a clip.

    Attributes:
        backend: that runs it.
        machine: that it is for.
        ways: by stage; where none fits, the nearest.
    """

    backend: str
    machine: Machine
    ways: Mapping[str, Way]

    @property
    def vram(self) -> int:
        """Bytes of the GPU at the peak: an estimate."""
        return max(way.vram for way in self.ways.values())

    @property
    def ram(self) -> int:
        """Bytes of the process at the peak."""
        return max(way.ram for way in self.ways.values())

    @property
    def fits(self) -> bool:
        """Whether the machine has that much."""
        return not any(way.excess(self.machine) for way in self.ways.values())

    @property
    def measures(self) -> list[Measure]:
        """Of all stages, each option once; of several budgets for weights the least."""
        found: dict[str, Measure] = {}
        measures = [measure for way in self.ways.values() for measure in way.measures]
        for measure in sorted(measures, key=lambda m: m.value if isinstance(m.value, int) else 0):
            found.setdefault(measure.option, measure)
        return list(found.values())

    @property
    def quantized(self) -> list[Measure]:
        """What `quantize` has to be asked for before, beside its precision."""
        return [way.quantized for way in self.ways.values() if way.quantized is not None]

    @property
    def beyond_gate(self) -> bool:
        """Whether the quality gate is likely to refuse what it takes."""
        return any(way.beyond_gate for way in self.ways.values())

    @property
    def options(self) -> dict[str, str | int]:
        """The measures as options, by their names in Python."""
        return {measure.option: measure.value for measure in self.measures}

    def streamed(self, stage: str) -> bool:
        """Whether the engines of a stage are to be built with weights that can be streamed."""
        return any(measure.option == "weight_budget" for measure in self.ways[stage].measures)


def place(stages: Stages, machine: Machine, backend: str) -> Placement:
    """The fastest way of each stage that fits, or else the nearest."""
    tried = ways(stages, machine, backend)
    return Placement(backend, machine, {stage: _chosen(tried[stage], machine) for stage in tried})


def backends(manifest: Manifest, machine: Machine) -> tuple[str, ...]:
    """What may run a bundle on a machine, the fastest first."""
    quantized = manifest.quantization
    for_cpu = quantized is not None and quantized.backend == ONNXRUNTIME
    return (ONNXRUNTIME,) if for_cpu or machine.vram is None else (TENSORRT, ONNXRUNTIME)


def unaided(stages: Stages, machine: Machine, backend: str) -> Placement:
    """The fastest way of each stage, whether it fits or not."""
    tried = ways(stages, machine, backend)
    return Placement(backend, machine, {stage: next(tried[stage]) for stage in tried})


def _chosen(tried: Iterator[Way], machine: Machine) -> Way:
    nearest = next(tried)
    while nearest.excess(machine):
        way = next(tried, None)
        if way is None:
            break
        nearest = min(nearest, way, key=lambda each: each.excess(machine))
    return nearest
