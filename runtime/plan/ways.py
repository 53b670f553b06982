"""The ways in which each stage of a clip can be run, from the fastest to the slowest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...engine.manifest import TEXT_ENCODER
from .machine import Machine, shown
from .stages import LEFT_BEHIND, PROCESS, Opened, Stages

ONNXRUNTIME, TENSORRT = "onnxruntime", "tensorrt-rtx"

TILES = (512, 256, 128)
"""Sides in pixels that are tried."""

SPARE = 16
"""With streamed weights one part in so many of the GPU's memory is left to the driver, to what
TensorRT streams through, and to what the estimate misses: an assumption."""

RESIDENT = 2
"""While a weight is used the next one comes in, so that at least so many of the largest have to be
on the GPU: an assumption."""

BEYOND_GATE = {"int4"}
"""Precisions of a text encoder that the quality gate refused when tried: docs/quantization.md."""

MB = 1 << 20


@dataclass(frozen=True)
class Measure:
    """Something done to take less memory.

    Attributes:
        option: of a request, of `load` or of `quantize`, by its name in Python.
        value: of that.
        reason: why, with what it takes otherwise.
    """

    option: str
    value: str | int
    reason: str


@dataclass(frozen=True)
class Way:
    """One way to run a stage.

    Attributes:
        vram: bytes of the GPU at the peak.
        ram: bytes of the process, likewise.
        measures: what has to be asked for.
        quantized: what `quantize` has to be asked for before, if anything.
    """

    vram: int
    ram: int
    measures: tuple[Measure, ...] = ()
    quantized: Measure | None = None

    @property
    def beyond_gate(self) -> bool:
        """Whether the quality gate is likely to refuse it."""
        return self.quantized is not None and self.quantized.value in BEYOND_GATE

    def excess(self, machine: Machine) -> int:
        """Bytes by which it is too large for a machine, both memories together."""
        return max(0, self.vram - (machine.vram or 0)) + max(0, self.ram - machine.ram)


def ways(stages: Stages, machine: Machine, backend: str) -> dict[str, Iterator[Way]]:
    """The ways of each stage; each is worked out when it is asked for."""
    if backend == ONNXRUNTIME:
        return {
            "text": iter([_text_on_cpu(stages, each) for each in stages.text_precisions]),
            "image": iter([Way(0, _ram(stages, stages.image()))]),
            "denoiser": _denoiser_on_cpu(stages, machine),
            "vae": _decoder(stages, on_gpu=False),
        }
    return {
        "text": _text(stages, machine),
        "image": _on_gpu(stages, machine, "image encoders", stages.image()),
        "denoiser": _denoiser(stages, machine),
        "vae": _decoder(stages, on_gpu=True),
    }


def _text(stages: Stages, machine: Machine) -> Iterator[Way]:
    """On the GPU, on the CPU, and streamed where the CPU has no memory for it either.

    One that is quantized is for the CPU, which `Sessions` knows.
    """
    opened = stages.text()
    ram = _ram(stages, opened)
    quantization = stages.manifest.quantization
    if quantization and quantization.backend_of(TEXT_ENCODER) == ONNXRUNTIME:
        yield Way(0, ram)
        return
    resident, streamed = _on_gpu(stages, machine, "text encoder", opened)
    yield resident
    reason = f"the text encoder takes {shown(resident.vram)} of a GPU; here {shown(ram)} of memory"
    yield Way(0, ram, (Measure("text_backend", ONNXRUNTIME, reason),))
    fewer = [_text_on_cpu(stages, each) for each in stages.text_precisions if each is not None]
    yield from (way for way in fewer if not way.beyond_gate)
    yield streamed
    yield from (way for way in fewer if way.beyond_gate)


def _text_on_cpu(stages: Stages, precision: str | None) -> Way:
    """On the CPU, with weights in another precision or, for `None`, as it is."""
    ram = _ram(stages, stages.text(precision))
    if precision is None:
        return Way(0, ram)
    whole = _ram(stages, stages.text())
    reason = (
        f"the text encoder on the CPU takes {shown(ram)} of memory with weights in {precision}, "
        f"{shown(whole)} as it is"
    )
    return Way(0, ram, quantized=Measure("text_encoder", precision, reason))


def _denoiser(stages: Stages, machine: Machine) -> Iterator[Way]:
    one = stages.denoiser(batched=False)
    alone = stages.vram(one)
    reason = "both predictions at once are not tried above a quarter of the GPU's memory"
    if stages.batched(machine.vram or machine.ram):
        both = stages.vram(stages.denoiser(batched=True))
        yield Way(both, PROCESS)
        reason = f"both predictions at once take {shown(both)}, one after the other {shown(alone)}"
    given = (Measure("sequential_guidance", True, reason),) if stages.settings.guided else ()
    for way in _on_gpu(stages, machine, "denoiser", one):
        yield Way(way.vram, way.ram, (*given, *way.measures))


def _denoiser_on_cpu(stages: Stages, machine: Machine) -> Iterator[Way]:
    alone = _ram(stages, stages.denoiser(batched=False))
    if not stages.batched(machine.ram):
        yield Way(0, alone)
        return
    both = _ram(stages, stages.denoiser(batched=True))
    yield Way(0, both)
    reason = f"both predictions at once take {shown(both)}, one after the other {shown(alone)}"
    yield Way(0, alone, (Measure("sequential_guidance", True, reason),))


def _decoder(stages: Stages, *, on_gpu: bool) -> Iterator[Way]:
    """In whole frames, or in tiles as asked for; then in smaller ones."""
    settings = stages.settings
    asked = settings.vae_tile
    largest = asked or max(settings.width, settings.height)
    sides = [asked, *(side for side in TILES if side < largest)]
    measure = stages.vram if on_gpu else stages.ram
    before = 0
    for side in sides:
        peak = max(measure(opened, side) for opened in stages.decoder(side))
        before = before or peak
        reason = f"the VAE takes {shown(peak)} in tiles of this side, {shown(before)} as asked"
        given = () if side == asked else (Measure("vae_tile", side, reason),)
        yield Way(peak, PROCESS, given) if on_gpu else Way(0, LEFT_BEHIND + peak, given)


def _on_gpu(stages: Stages, machine: Machine, what: str, opened: Opened) -> Iterator[Way]:
    """With all weights on the GPU, and with some of them in the computer's memory."""
    whole = stages.vram(opened)
    yield Way(whole, PROCESS)
    weights = sum(needs.gpu.weights for needs in opened.values())
    working = whole - weights
    least = sum(min(n.gpu.weights, RESIDENT * n.weights.largest) for n in opened.values())
    vram = machine.vram or 0
    budget = min(weights, max(vram - vram // SPARE - working, -(-least // MB) * MB)) // MB * MB
    reason = (
        f"the {what}: {shown(weights)} of weights and {shown(working)} to work in; so much of the "
        "weights stays on the GPU, the rest is read from the computer's memory in each run"
    )
    streamed = (working + budget) * SPARE // (SPARE - 1)
    yield Way(streamed, PROCESS + weights, (Measure("weight_budget", budget, reason),))


def _ram(stages: Stages, opened: Opened) -> int:
    return LEFT_BEHIND + stages.ram(opened)
