"""The GPU by its driver, and the packages that have a part in using it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata

GPU_FACTS = "name,driver_version,memory.total,power.limit,clocks.max.sm,compute_cap"
PACKAGES = (
    "torch", "diffusers", "cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "onnxruntime-gpu",
    "tensorrt", "tensorrt-rtx",
)  # fmt: skip


def card() -> dict[str, str] | None:
    """What `nvidia-smi` tells of the first GPU; `None` where there is neither."""
    command = ["nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    values = told.stdout.splitlines()[0].split(", ")
    return dict(zip(GPU_FACTS.split(","), values, strict=True))


def installed(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those that are there."""
    versions = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
