"""A plan as it is told: to a person, and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..engine.planner import Needs
from ..runtime.experts import both_fit
from ..runtime.plan import TENSORRT, Placement, Plan, Remedies, enough, shown
from .plan_commands import arguments, builds, generate, quantize

MB = 1 << 20

GATE = {
    "int8": "the quality gate let it pass: .35 % off with the embedded model, 2 % are allowed",
    "int4": "the quality gate refused it: 5.2 % off with the embedded model, 2 % are allowed",
}
"""Of text encoders in few bits; `quantize` judges each anew: docs/quantization.md."""


@dataclass(frozen=True)
class Report:
    """What is told of a plan.

    Attributes:
        plan: of a clip.
        bundle: its path.
        asked: options of `generate`, but for the size; those that were not given are `None`.
    """

    plan: Plan
    bundle: str
    asked: Mapping[str, Any]

    @cached_property
    def remedies(self) -> Remedies:
        """What would fit; for a clip that does not."""
        return self.plan.remedies()

    def facts(self) -> dict[str, Any]:
        """All of a plan; memory in MB (2^20 bytes)."""
        plan = self.plan
        settings, machine, chosen = plan.settings, plan.machine, plan.chosen
        return {
            "width": settings.width,
            "height": settings.height,
            "frames": settings.frames,
            "precision": plan.precision,
            "guidance": self._guidance,
            "graphs": {name: _graph(needs) for name, needs in plan.graphs.items()},
            "ram_mb": _mb(plan.ram),
            "ram_kept_open_mb": _mb(plan.ram_kept_open),
            "vram_mb": _mb(plan.vram),
            "bundle_mb": _mb(plan.disk),
            "engines_mb": _mb(plan.engines),
            "build_ram_mb": _mb(plan.build_ram),
            "machine": {"ram_mb": _mb(machine.ram), "vram_mb": machine.vram and _mb(machine.vram)},
            "backend": chosen and chosen.backend,
            "text_backend": chosen and chosen.options.get("text_backend"),
            "placement": chosen and self._placement(chosen),
            "tried": {name: _summary(placed) for name, placed in plan.placements.items()},
            "estimates": {
                precision: {placed.backend: self._estimate(placed, precision) for placed in each}
                for precision, each in plan.estimates.items()
            },
            "would_fit": None if chosen else _remedies(self.remedies),
        }

    def lines(self) -> list[str]:
        """The same for a person."""
        plan, settings = self.plan, self.plan.settings
        rows = {name: _graph(needs) for name, needs in plan.graphs.items()}
        head = ("graph, MB", "weights", "working", "weights (GPU)", "working (GPU)")
        table = [head, *((name, *map(str, row.values())) for name, row in rows.items())]
        clip = f"{settings.width}x{settings.height}, {settings.frames} frames"
        engines, build = _mb(plan.engines), _mb(plan.build_ram)
        return [
            f"{clip}, {plan.precision}, guidance {self._guidance}",
            *(f"{row[0]:<20}" + "".join(f"{cell:>15}" for cell in row[1:]) for row in table),
            f"onnxruntime, CPU: {_mb(plan.ram)} MB of {_mb(plan.machine.ram)} MB",
            f"onnxruntime, CPU, engines kept open for more clips: {_mb(plan.ram_kept_open)} MB",
            f"tensorrt-rtx, GPU: {_mb(plan.vram)} MB{self._of_the_gpu}, an estimate",
            f"disk: bundle {_mb(plan.disk)} MB, TensorRT engines about {engines} MB",
            f"memory to build those: roughly {build} MB",
            *self._estimate_lines(),
            *(self._chosen_lines(plan.chosen) if plan.chosen else ["fits nowhere"]),
        ]

    def refusal(self) -> str:
        """Where nothing fits: what is lacking, and what would fit."""
        lacking = []
        for placed in self.plan.placements.values():
            where = "a GPU" if placed.backend == TENSORRT else "the CPU"
            pairs = ((placed.vram, self.plan.machine.vram or 0), (placed.ram, placed.machine.ram))
            parts = [
                f"{shown(needed)} {kind}({shown(there)} are there)"
                for (needed, there), kind in zip(pairs, ("", "of memory "), strict=True)
                if needed > there
            ]
            lacking.append(f"on {where} it needs at least {' and '.join(parts)}")
        return f"the clip fits nowhere: {'; '.join(lacking)}; what would: {self._what_would()}"

    def _what_would(self) -> str:
        remedies, machine = self.remedies, self.plan.machine
        found = [f"--ram {enough(remedies.ram)} without a GPU"]
        if remedies.vram is not None and remedies.vram_ram is not None:
            more = remedies.vram_ram > machine.ram
            beside = f" and --ram {enough(remedies.vram_ram)}" if more else ""
            found.insert(0, f"--vram {enough(max(remedies.vram, machine.vram or 0))}{beside}")
        if remedies.size is not None:
            found.append("--size {}x{}".format(*remedies.size))
        if remedies.frames is not None:
            found.append(f"--frames {remedies.frames}")
        if remedies.precision is not None:
            found.append(f"{remedies.precision} (an estimate), {self._how_to(remedies.precision)}")
        return ", or ".join(found)

    def _how_to(self, precision: str) -> str:
        """The command that makes a bundle of another precision."""
        placed = next(each for each in self.plan.estimates[precision] if each.fits)
        return shlex.join(self._make(placed, precision))

    def _make(self, placed: Placement, precision: str) -> list[str]:
        if precision == "fp16":
            return ["mutoscope", "export", "CHECKPOINT", "OUT", "--precision", precision]
        return quantize(self.plan, placed, precision, self.bundle)

    def _estimate(self, placed: Placement, precision: str) -> dict[str, Any]:
        text = next((measure.value for measure in placed.quantized), None)
        command = self._make(placed, precision)
        return {**_summary(placed), "text_encoder": text, "make": command}

    def _estimate_lines(self) -> list[str]:
        lines = []
        for precision, each in self.plan.estimates.items():
            for placed in each:
                flags = " ".join(["--backend", placed.backend, *arguments(placed.options)])
                said = f"fits: {flags}" if placed.fits else "does not fit"
                lines.append(f"in {precision}, an estimate: {_amounts(placed)}; {said}")
                if placed.fits:
                    reasons = [measure.reason for measure in placed.quantized]
                    lines += [f"  {line}" for line in (*reasons, *_gate(placed))]
                    lines.append(f"  {shlex.join(self._make(placed, precision))}")
        return lines

    def _chosen_lines(self, chosen: Placement) -> list[str]:
        plan = self.plan
        commands = [*builds(plan, chosen, self.bundle), self._generate(chosen)]
        unseen = ", which no GPU has run yet" if chosen.backend == TENSORRT else ""
        return [
            f"fits: --backend {chosen.backend}{unseen}; {_amounts(chosen)}",
            *self._expert_lines(chosen),
            *(
                f"  {' '.join(arguments({measure.option: measure.value}))}: {measure.reason}"
                for measure in chosen.measures
            ),
            *(shlex.join(command) for command in commands),
        ]

    def _expert_lines(self, chosen: Placement) -> list[str]:
        manifest, vram = self.plan.stages.manifest, chosen.machine.vram
        if manifest.denoiser.boundary is None:
            return []
        kept = chosen.backend == TENSORRT and vram is not None and both_fit(manifest, vram)
        more = "; a pipeline in Python keeps both open for its next clip" if kept else ""
        return [f"  one of the two denoisers is open at a time{more}"]

    def _placement(self, placed: Placement) -> dict[str, Any]:
        return {
            **_summary(placed),
            "measures": [asdict(measure) for measure in placed.measures],
            "build": builds(self.plan, placed, self.bundle),
            "generate": self._generate(placed),
        }

    def _generate(self, placed: Placement) -> list[str]:
        return generate(self.plan, placed, self.bundle, self.asked)

    @property
    def _guidance(self) -> str:
        if not self.plan.settings.guided:
            return "off"
        return "in one batch" if self.plan.batched else "one prediction after the other"

    @property
    def _of_the_gpu(self) -> str:
        vram = self.plan.machine.vram
        return "" if vram is None else f" of {_mb(vram)} MB"


def _summary(placed: Placement) -> dict[str, Any]:
    return {
        "backend": placed.backend,
        "fits": placed.fits,
        "vram_mb": _mb(placed.vram),
        "ram_mb": _mb(placed.ram),
        "options": placed.options,
    }


def _gate(placed: Placement) -> list[str]:
    return [GATE[str(measure.value)] for measure in placed.quantized]


def _amounts(placed: Placement) -> str:
    memory = f"{shown(placed.ram)} of {shown(placed.machine.ram)} of memory"
    if placed.machine.vram is None or not placed.vram:
        return memory
    return f"{shown(placed.vram)} of the GPU's {shown(placed.machine.vram)}, {memory}"


def _remedies(found: Remedies) -> dict[str, Any]:
    return {
        "vram_mb": found.vram and _mb(found.vram),
        "vram_ram_mb": found.vram_ram and _mb(found.vram_ram),
        "ram_mb": _mb(found.ram),
        "size": found.size,
        "frames": found.frames,
        "precision": found.precision,
    }


def _graph(needs: Needs) -> dict[str, float]:
    return {
        "weights_mb": _mb(needs.cpu.weights),
        "working_mb": _mb(needs.cpu.arena),
        "gpu_weights_mb": _mb(needs.gpu.weights),
        "gpu_working_mb": _mb(needs.gpu.live),
    }


def _mb(amount: int) -> float:
    return round(amount / MB, 1)
