"""What there is to learn of a machine's GPU path, in parts that do not need each other.

What one part leaves for another lies in the work folder; where it is missing, that one says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.open import INT8_ATTENTION
from ..engine.profiles import LatentSize
from . import gpu_wan
from .energy import find_meter
from .gpu_engines import GPU_BACKENDS, Case, denoiser, found
from .gpu_environment import card, installed
from .gpu_placement import placed
from .gpu_setting import BACKENDS, Setting, needs_backend, needs_device, torch_device
from .machine import describe
from .suite import Figures, SkippedError

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-P", "-m", "pytest", "--gpu", "-k", "gpu", "-q"]
GPU_TESTS = ("tests/gpu", "tests/kernels", "tests/runtime/test_arithmetic.py")
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "initcheck")
FOUND = 86
"""What compute-sanitizer exits with where it has found something; pytest has no such code."""


def environment(setting: Setting) -> Figures:
    """The card by its driver, the machine, and what counts its energy."""
    return {**describe(), "gpu": card(), "energy": str(find_meter()), "packages": installed()}


def backends(setting: Setting) -> Figures:
    """Which of our GPU backends can run here, and why the others cannot."""
    return {backend: found(backend) for backend in GPU_BACKENDS}


def tests(setting: Setting) -> Figures:
    """The tests that want a GPU."""
    needs_device()
    return {"told": _run([*PYTEST, *GPU_TESTS]).splitlines()[-1]}


def sanitizer(setting: Setting, *, tool: str) -> Figures:
    """The kernels' tests under one of compute-sanitizer's tools."""
    needs_device()
    program = shutil.which(SANITIZER)
    if program is None:
        raise SkippedError(f"{SANITIZER} is not on PATH; it comes with NVIDIA's CUDA toolkit")
    files = sorted(path.relative_to(ROOT) for path in ROOT.glob("tests/kernels/test_device_*.py"))
    command = [program, "--tool", tool, "--error-exitcode", str(FOUND), *PYTEST, *map(str, files)]
    told = _run(command)
    summaries = re.findall(r"^=+ (.*SUMMARY: .*)$", told, re.MULTILINE)
    if not summaries:
        raise RuntimeError(f"{SANITIZER} gave no summary: {told[-2000:]}")
    passed = re.findall(r"^.*\bpassed\b.*$", told, re.MULTILINE)
    return {"told": summaries[-1], "tests": passed[-1] if passed else "none passed"}


def _run(command: list[str]) -> str:
    """What a program prints.

    Raises:
        RuntimeError: it fails.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-1000:])
    return done.stdout


def ceilings(setting: Setting) -> Figures:
    """Copy bandwidth and matmul rates."""
    device = torch_device(setting)
    from .peers.ceilings import measure

    sizes: dict[str, Any] = {"copied": 1 << 20, "side": 64} if setting.small else {}
    return measure(device, **sizes)


def kernels(setting: Setting) -> Figures:
    """Our kernels: bandwidth beside a copy's, and how far they are from their statements."""
    needs_device()
    from .gpu_kernels import measure

    return measure()


def diffusers_clip(setting: Setting) -> Figures:
    """A clip of the embedded model's checkpoint through diffusers' pipeline; keeps its frames."""
    device = torch_device(setting)
    from .gpu_loop import embedded_checkpoint, embedded_tokens, request
    from .peers.diffusers_clip import clip

    wanted = request(small=setting.small)
    frames, figures = clip(embedded_checkpoint(), wanted, device, tokens=embedded_tokens())
    np.save(setting.reference, frames)
    return figures


def embedded(setting: Setting, *, backend: str, int8_attention: bool = False) -> Figures:
    """The embedded model's denoiser: one prediction at a time, and two; beside the CPU's."""
    needs_backend(backend)
    from .gpu_loop import embedded_bundle, request

    size = LatentSize(*request(small=setting.small)["latents"].shape[2:])
    figures = {}
    for batch in (1, 2):
        case = Case(embedded_bundle(), size, batch, int8_attention)
        figures[f"batch {batch}"] = denoiser(backend, case, beside_cpu=True)
    return figures | placed(backend, case)


def clip(setting: Setting, *, backend: str) -> Figures:
    """Clips of the embedded model from prompt to frames, beside diffusers' from the same noise."""
    needs_backend(backend)
    from .gpu_loop import compare, measure, request

    frames, figures = measure(backend, request(small=setting.small))
    return {**figures, **compare(frames, setting.reference)}


PARTS: Mapping[str, Callable[[Setting], Figures]] = {
    "environment": environment,
    "backends": backends,
    "kernels": kernels,
    "tests": tests,
    "diffusers-clip": diffusers_clip,
    **{f"{b}-embedded": partial(embedded, backend=b) for b in BACKENDS},
    **{
        f"{b}-embedded-int8-attention": partial(embedded, backend=b, int8_attention=True)
        for b in INT8_ATTENTION
    },
    **{f"{b}-clip": partial(clip, backend=b) for b in BACKENDS},
    "ceilings": ceilings,
    **gpu_wan.PARTS,
    **{f"sanitizer-{tool}": partial(sanitizer, tool=tool) for tool in TOOLS},
}
"""By name, in their order: what tells most comes first, and what others need before them."""

SECONDS = 300
LONGER = {
    "export": 1800,
    "tests": 1200,
    "diffusers-*": 900,
    "*-wan-clip-large": 1800,
    "*-wan-*": 900,
    "*-vae-*": 900,
    "sanitizer-*": 1200,
}
"""By pattern, the first that fits: what draws, exports or builds models of Wan's size."""


def seconds_for(part: str) -> int:
    """How long a part may take."""
    return next((s for pattern, s in LONGER.items() if fnmatch(part, pattern)), SECONDS)
