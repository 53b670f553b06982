"""What a clip takes before it is made: memory, disk, and the backend it fits on."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Bundle
from ..engine.manifest import Manifest
from ..engine.planner import Needs, needs
from .conditioning import graphs_for_image
from .guidance import fits_batched
from .request import Settings

PROCESS = 100 << 20
"""Bytes of Python, NumPy, ONNX Runtime and the encoder with no bundle open: measured."""

NODE = 8 << 10
"""Bytes that ONNX Runtime holds for each node of a graph, weights aside: measured."""

LEFT_BEHIND = 8 << 20
"""Bytes that engines leave in the process when they are closed: measured."""

PICTURES = 4
"""Copies of the frames of one run of the VAE, in fp32, while they become RGB."""

BUILD, BUILD_FACTOR = 400 << 20, 5
"""A TensorRT build takes this, and so many times the weights: docs/tensorrt.md, docs/lab.md."""

ENOUGH_RUNS = 4
"""By then the arena of a session has stopped to grow."""

ONNXRUNTIME, TENSORRT = "onnxruntime", "tensorrt-rtx"


@dataclass(frozen=True)
class Machine:
    """Bytes of memory; without a GPU `vram` is `None`."""

    ram: int
    vram: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a clip takes, in bytes.

    Attributes:
        settings: of the clip.
        machine: what there is.
        precision: of the bundle.
        batched: whether the two predictions of a step go through at once.
        stages: the graphs that are open at one time, stage by stage, and what each takes; the text
            encoder's is the first.
        disk: of the bundle.
    """

    settings: Settings
    machine: Machine
    precision: str
    batched: bool
    stages: tuple[dict[str, Needs], ...]
    disk: int

    @property
    def graphs(self) -> dict[str, Needs]:
        """Of all stages."""
        return {name: needs for stage in self.stages for name, needs in stage.items()}

    @property
    def ram(self) -> int:
        """The peak of a process that makes the clip with ONNX Runtime on the CPU."""
        return LEFT_BEHIND + max(map(self._ram, self.stages))

    @property
    def ram_kept_open(self) -> int:
        """The same where engines wait for the next clip."""
        return self._ram(self.graphs)

    @property
    def vram(self) -> int:
        """Weights and working memory on a GPU at its peak: an estimate, none has run them."""
        return max(map(_vram, self.stages))

    @property
    def vram_without_text(self) -> int:
        """The same where the text encoder runs on the CPU."""
        return max(map(_vram, self.stages[1:]))

    def _ram(self, opened: dict[str, Needs]) -> int:
        engines = sum(n.cpu.weights + n.cpu.arena + NODE * n.nodes for n in opened.values())
        frame = 3 * self.settings.width * self.settings.height
        pictures = PICTURES * min(self.settings.frames, 4)
        if self.settings.vae_tile and "vae_decoder_next" in opened:
            pictures += self.settings.frames
        return PROCESS + engines + 4 * frame * pictures

    @property
    def engines(self) -> int:
        """Disk that TensorRT engines take, about: their weights."""
        return sum(n.gpu.weights for n in self.graphs.values())

    @property
    def build_ram(self) -> int:
        """Memory that building the largest engine takes, roughly."""
        return BUILD + BUILD_FACTOR * max(n.gpu.weights for n in self.graphs.values())

    @property
    def backend(self) -> str | None:
        """Where it fits: on the GPU where one is named, else on the CPU, else nowhere."""
        if self.machine.vram is not None and self.vram <= self.machine.vram:
            return TENSORRT
        if self.text_backend is not None:
            return TENSORRT
        return ONNXRUNTIME if self.ram <= self.machine.ram else None

    @property
    def text_backend(self) -> str | None:
        """What has to run the text encoder, where the rest alone fits on the GPU."""
        if self.machine.vram is None or self.vram <= self.machine.vram:
            return None
        fits = self.vram_without_text <= self.machine.vram
        return ONNXRUNTIME if fits and self._ram(self.stages[0]) <= self.machine.ram else None


def _vram(stage: dict[str, Needs]) -> int:
    return sum(n.gpu.weights + n.gpu.live + n.inputs for n in stage.values())


def make_plan(bundle: Bundle, settings: Settings, machine: Machine) -> Plan:
    """Predict what a clip takes, with the longest prompt there may be.

    Raises:
        BundleError: a graph that a clip needs is missing or no ONNX file.
        MissingExtraError: the package `protobuf` is not installed.
        MutoscopeError: a graph has an operator that the planner does not know.
    """
    manifest = bundle.manifest
    batched = settings.guided and fits_batched(manifest, settings.latent_shape, machine.ram)
    _, _, frames, height, width = settings.latent_shape
    axes = {
        "batch": 1,
        "tokens": manifest.text.max_tokens,
        "latent_frames": frames,
        "latent_height": height,
        "latent_width": width,
    }

    def needed(name: str, runs: int) -> Needs:
        own = {**axes, "batch": 2} if batched and name == "denoiser" else axes
        if settings.vae_tile and name.startswith("vae_decoder"):
            side = settings.vae_tile // manifest.latents.spatial_compression
            tile = {"latent_height": min(height, side), "latent_width": min(width, side)}
            own = {**axes, **tile}
        return needs(bundle, name, own, min(runs, ENOUGH_RUNS))

    stages = tuple(
        {name: needed(name, runs) for name, runs in stage.items() if runs}
        for stage in _runs(manifest, settings, batched=batched)
    )
    disk = sum(file.size for file in manifest.files.values())
    return Plan(settings, machine, bundle.precision, batched, tuple(filter(None, stages)), disk)


def _runs(manifest: Manifest, settings: Settings, *, batched: bool) -> list[dict[str, int]]:
    """How often each graph runs for a clip, stage by stage; a stage's are open together.

    Of two experts one is open at a time, and they are alike: the first stands for both.
    """
    further = settings.latent_shape[2] - 1
    image = () if settings.image is None else graphs_for_image(manifest, settings.frames)
    return [
        {"text_encoder": 1 + settings.guided},
        {name: further if name == "vae_encoder_next" else 1 for name in image},
        {"denoiser": settings.steps * (1 + settings.guided - batched)},
        {"vae_decoder_first": 1, "vae_decoder_next": min(further, 1)},  # whose caches it holds
        {"vae_decoder_first": settings.vae_tile and 1, "vae_decoder_next": further},
    ]


def advice(plan: Plan) -> list[str]:
    """What would bring the memory down, and whether it is there to be used."""
    tips = ["a smaller --size or fewer --frames"]
    if plan.batched:
        tips.append("--guidance 1, which takes one prediction a step")
    if plan.machine.vram is not None:
        if plan.precision == "fp32":
            tips.append("mutoscope export --precision fp16, about half on a GPU")
        tips.append("mutoscope build --weight-streaming (builds; has not run on a GPU yet)")
    else:
        tips.append("a GPU, whose attention keeps no scores: --vram tells what it would need")
    if not plan.settings.vae_tile:
        tips.append("--vae-tile 256, frames decoded in tiles")
    return tips
