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
        graphs: what each takes; all of them are open at the end of a clip.
        disk: of the bundle.
    """

    settings: Settings
    machine: Machine
    precision: str
    batched: bool
    graphs: dict[str, Needs]
    disk: int

    @property
    def ram(self) -> int:
        """The peak of a process that makes the clip with ONNX Runtime on the CPU."""
        opened = sum(n.cpu.weights + n.cpu.arena + NODE * n.nodes for n in self.graphs.values())
        numbers = 3 * self.settings.width * self.settings.height * min(self.settings.frames, 4)
        return PROCESS + opened + 4 * PICTURES * numbers

    @property
    def vram(self) -> int:
        """Weights and working memory of all graphs on a GPU: an estimate, none has run them."""
        return sum(n.gpu.weights + n.gpu.live + n.inputs for n in self.graphs.values())

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
        return ONNXRUNTIME if self.ram <= self.machine.ram else None


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
    graphs = {}
    for name, runs in _runs(manifest, settings, batched=batched).items():
        own = {**axes, "batch": 2} if batched and name == "denoiser" else axes
        graphs[name] = needs(bundle, name, own, min(runs, ENOUGH_RUNS))
    disk = sum(file.size for file in manifest.files.values())
    return Plan(settings, machine, bundle.precision, batched, graphs, disk)


def _runs(manifest: Manifest, settings: Settings, *, batched: bool) -> dict[str, int]:
    """How often each graph runs for a clip, in the order in which they are opened.

    Of two experts one is open at a time, and they are alike: the first stands for both.
    """
    further = settings.latent_shape[2] - 1
    image = () if settings.image is None else graphs_for_image(manifest, settings.frames)
    runs = {
        "text_encoder": 1 + settings.guided,
        **{name: further if name == "vae_encoder_next" else 1 for name in image},
        "denoiser": settings.steps * (1 + settings.guided - batched),
        "vae_decoder_first": 1,
        "vae_decoder_next": further,
    }
    return {name: count for name, count in runs.items() if count}


def advice(plan: Plan) -> list[str]:
    """What would bring the memory down, and whether it is there to be used."""
    tips = ["a smaller --size or fewer --frames"]
    if plan.batched:
        tips.append("--guidance 1, which takes one prediction a step")
    if plan.machine.vram is not None:
        if plan.precision == "fp32":
            tips.append("mutoscope export --precision fp16, about half on a GPU")
        tips.append("mutoscope build --weight-streaming (builds; has not run on a GPU yet)")
        tips.append("the text encoder on the CPU and the rest on the GPU (not built yet)")
    else:
        tips.append("a GPU, whose attention keeps no scores: --vram tells what it would need")
    tips.append("closing engines after use, tiles in the VAE (not built yet)")
    return tips
