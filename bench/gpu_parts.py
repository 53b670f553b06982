"""What there is to learn of a machine's GPU path, in parts that do not need each other.

What one part leaves for another lies in the work folder; where it is missing, that one says so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Bundle
from ..engine.profiles import LatentSize
from ..errors import UserError
from ..kernels.devices import open_device
from .gpu_engines import GPU_BACKENDS, Case, denoiser, found
from .gpu_environment import card, installed
from .machine import describe
from .suite import SkippedError
from .wan_layout import TINY, WAN_1_3B, Size, operations

BACKENDS = ("onnxruntime", *GPU_BACKENDS)
SIZES = (Size(416, 240, 17), Size(832, 480, 81))
TINY_SIZES = (Size(64, 32, 5), Size(32, 64, 9))
ROOT = Path(__file__).parents[1]
GPU_TESTS = ("tests/gpu", "tests/kernels", "tests/runtime/test_arithmetic.py")


@dataclass(frozen=True)
class Setting:
    """How parts run.

    Attributes:
        work: a folder for what parts leave for others: a bundle, frames.
        small: tiny sizes, on the CPU where there is no GPU.
    """

    work: Path
    small: bool = False

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of Wan's clips."""
        return TINY_SIZES if self.small else SIZES

    @property
    def bundle(self) -> Path:
        """Where the export leaves a bundle of Wan's layout."""
        return self.work / "wan"

    @property
    def reference(self) -> Path:
        """Where diffusers leaves its frames."""
        return self.work / "diffusers-clip.npy"


def environment(setting: Setting) -> dict[str, Any]:
    """The card by its driver, and the machine."""
    return {**describe(), "gpu": card(), "packages": installed()}


def backends(setting: Setting) -> dict[str, Any]:
    """Which of our GPU backends can run here, and why the others cannot."""
    return {backend: found(backend) for backend in GPU_BACKENDS}


def tests(setting: Setting) -> dict[str, Any]:
    """The tests that want a GPU."""
    _needs_device()
    command = [sys.executable, "-P", "-m", "pytest", "--gpu", "-k", "gpu", "-q", *GPU_TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-1000:])
    return {"told": done.stdout.splitlines()[-1]}


def ceilings(setting: Setting) -> dict[str, Any]:
    """Copy bandwidth and matmul rates."""
    device = _torch_device(setting)
    from .peers.ceilings import measure

    sizes: dict[str, Any] = {"copied": 1 << 20, "side": 64} if setting.small else {}
    return measure(device, **sizes)


def kernels(setting: Setting) -> dict[str, Any]:
    """Our kernels: bandwidth beside a copy's, and how far they are from their statements."""
    _needs_device()
    from .gpu_kernels import measure

    return measure()


def diffusers_denoiser(setting: Setting, *, compiled: bool) -> dict[str, Any]:
    """One denoiser pass of diffusers, eager or through `torch.compile`."""
    device = _torch_device(setting)
    from .peers.diffusers_wan import denoiser

    layout = TINY if setting.small else WAN_1_3B
    return {s.name: denoiser(device, layout, s, compiled=compiled) for s in setting.sizes}


def diffusers_vae(setting: Setting) -> dict[str, Any]:
    """A clip through diffusers' decoder."""
    device = _torch_device(setting)
    from .peers.diffusers_wan import vae

    base = 4 if setting.small else 96
    return {size.name: vae(device, size, base=base) for size in setting.sizes}


def diffusers_clip(setting: Setting) -> dict[str, Any]:
    """A clip of the embedded model's checkpoint through diffusers' pipeline; keeps its frames."""
    device = _torch_device(setting)
    from .gpu_loop import embedded_checkpoint, embedded_tokens, request
    from .peers.diffusers_clip import clip

    wanted = request(small=setting.small)
    frames, figures = clip(embedded_checkpoint(), wanted, device, tokens=embedded_tokens())
    np.save(setting.reference, frames)
    return figures


def export(setting: Setting) -> dict[str, Any]:
    """A bundle of Wan's denoiser with random weights, in fp16, for the parts after it."""
    device = _torch_device(setting)
    from .gpu_loop import embedded_checkpoint
    from .peers import wan_checkpoint

    checkpoint = setting.work / "wan-checkpoint"
    layout = TINY if setting.small else WAN_1_3B
    wan_checkpoint.write(checkpoint, embedded_checkpoint(), layout, device)
    wan_checkpoint.export(checkpoint, setting.bundle, ("denoiser",), "fp16")
    megabytes = sum(path.stat().st_size for path in setting.bundle.iterdir()) / 1e6
    return {"megabytes": round(megabytes, 1)}


def embedded(setting: Setting, *, backend: str) -> dict[str, Any]:
    """The embedded model's denoiser: one prediction at a time, and two; beside the CPU's."""
    _needs_backend(backend)
    from .gpu_loop import embedded_bundle, request

    size = LatentSize(*request(small=setting.small)["latents"].shape[2:])
    figures = {}
    for batch in (1, 2):
        case = Case(embedded_bundle(), size, batch)
        figures[f"batch {batch}"] = denoiser(backend, case, beside_cpu=True)
    return figures | _placed(backend, case)


def wan(setting: Setting, *, backend: str, index: int) -> dict[str, Any]:
    """The denoiser of Wan's layout."""
    _needs_backend(backend)
    if not setting.bundle.exists():
        raise SkippedError("the part export has left no bundle")
    if backend not in GPU_BACKENDS and not setting.small:
        raise SkippedError("a denoiser of this size is for GPUs")
    size = setting.sizes[index]
    case = Case(setting.bundle, LatentSize(*size.latent))
    figures = denoiser(backend, case)
    rate = operations(TINY if setting.small else WAN_1_3B, size.tokens) / figures["run_ms"] / 1e9
    figures |= {"tflop_s": round(rate, 3)} | ({} if index else _placed(backend, case))
    return {"size": size.name, "tokens": size.tokens, **figures}


def clip(setting: Setting, *, backend: str) -> dict[str, Any]:
    """Clips of the embedded model from prompt to frames, beside diffusers' from the same noise."""
    _needs_backend(backend)
    from .gpu_loop import compare, measure, request

    frames, figures = measure(backend, request(small=setting.small))
    return {**figures, **compare(frames, setting.reference)}


def _torch_device(setting: Setting) -> str:
    from .peers.timing import has_cuda

    if has_cuda():
        return "cuda"
    if setting.small:
        return "cpu"
    raise SkippedError("PyTorch finds no CUDA device")


def _placed(backend: str, case: Case) -> dict[str, Any]:
    """The nodes of a denoiser by the provider that runs them, where ONNX Runtime has a GPU."""
    if backend != "onnxruntime-cuda":
        return {}
    from ..engine.backends.onnxruntime_cuda import open_stream, providers
    from .gpu_placement import placement

    bundle = Bundle.open(case.bundle)
    path = bundle.file(bundle.graph("denoiser").file)
    return {"nodes": placement(path, providers(open_stream()), case.feeds(bundle))}


def _needs_device() -> None:
    try:
        open_device()
    except UserError as error:
        raise SkippedError(str(error)) from None


def _needs_backend(backend: str) -> None:
    if backend in GPU_BACKENDS:
        what = found(backend)
        if not what["runs"]:
            raise SkippedError(what["reason"])


PARTS: Mapping[str, Callable[[Setting], dict[str, Any]]] = {
    "environment": environment,
    "backends": backends,
    "kernels": kernels,
    "tests": tests,
    "diffusers-clip": diffusers_clip,
    **{f"{b}-embedded": partial(embedded, backend=b) for b in BACKENDS},
    **{f"{b}-clip": partial(clip, backend=b) for b in BACKENDS},
    "ceilings": ceilings,
    "diffusers-eager": partial(diffusers_denoiser, compiled=False),
    "export": export,
    **{f"{b}-wan-small": partial(wan, backend=b, index=0) for b in BACKENDS},
    **{f"{b}-wan-large": partial(wan, backend=b, index=1) for b in BACKENDS},
    "diffusers-vae": diffusers_vae,
    "diffusers-compiled": partial(diffusers_denoiser, compiled=True),
}
"""By name, in their order: what tells most comes first, and what others need before them."""
