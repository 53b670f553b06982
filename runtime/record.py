"""What was done to make a clip, and how long each part took."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from types import MappingProxyType
from typing import Any, TypeVar

from ..engine import Sessions
from ..engine.memory import peak_memory_mb

Piece = TypeVar("Piece")
PACKAGES = ("mutoscope", "numpy", "av", "onnxruntime")


@dataclass
class Record:
    """The account of one clip.

    Attributes:
        settings: prompt, seed and all the rest, with defaults filled in.
        bundle: name, family, precision, the sha256 that identifies the bundle, and its preset.
        loras: of each LoRA name, sha256 and scale, and the denoiser where one was named.
        backend: what ran it.
        text_backend: what ran its text encoder.
        kernels: of our own, what has computed in the bundle's graphs beside the backends.
        versions: of Python and of the packages that had a part in it.
        seconds: per stage: `text`, `open` (the denoiser; a second one opens in the step that first
            needs it), `image` (encoding the one that is given), `denoise`, `vae`, `encode` (what
            was left of it when the last frame was decoded), and `total`.
        step_seconds: of each denoising step.
        foretold_steps: those without the denoiser, by a step cache; their indices from 0.
        recorded_steps: on a GPU, those launched as a whole, as one CUDA graph; likewise.
        not_recorded: why no step is, where that could be.
        warnings: what the user was told.
        output: path, codec and encoder of the file, where one was written.
    """

    settings: dict[str, Any]
    bundle: dict[str, Any]
    loras: list[dict[str, Any]]
    backend: str
    text_backend: str
    versions: dict[str, str]
    kernels: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    foretold_steps: list[int] = field(default_factory=list)
    recorded_steps: list[int] = field(default_factory=list)
    not_recorded: str = ""
    warnings: list[str] = field(default_factory=list)
    output: dict[str, Any] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter, repr=False)
    _peak_memory_mb: float | None = field(default=None, repr=False)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def timed(self, name: str, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """The same pieces; the time that making them takes is added to a stage."""
        while True:
            with self.stage(name):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    @property
    def peak_memory_mb(self) -> float:
        """The most memory this process had held when the clip was done, or has so far.

        In MB (2^20 bytes).
        """
        return peak_memory_mb() if self._peak_memory_mb is None else self._peak_memory_mb

    def finish(self) -> None:
        """Settle the total, once, and the peak of memory."""
        self.seconds.setdefault("total", time.perf_counter() - self._began)
        self._peak_memory_mb = peak_memory_mb()

    def provenance(self) -> dict[str, Any]:
        """What identifies the clip and would make it again: no times, no machine."""
        return {
            "settings": self.settings,
            "bundle": self.bundle,
            "loras": self.loras,
            "backend": self.backend,
            "text_backend": self.text_backend,
            "kernels": self.kernels,
            "versions": self.versions,
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON; times rounded to the microsecond."""
        whole = asdict(self)
        del whole["_began"], whole["_peak_memory_mb"]
        whole["seconds"] = {name: round(spent, 6) for name, spent in self.seconds.items()}
        whole["step_seconds"] = [round(spent, 6) for spent in self.step_seconds]
        whole["peak_memory_mb"] = round(self.peak_memory_mb, 1)
        return whole


def start(settings: dict[str, Any], sessions: Sessions) -> Record:
    """The record of a clip that is about to be made."""
    bundle = sessions.bundle
    return Record(
        settings=settings,
        bundle={
            "name": bundle.manifest.name,
            "family": bundle.manifest.family,
            "precision": bundle.precision,
            "sha256": bundle.sha256,
            "preset": bundle.preset,
        },
        loras=[lora.record() for lora in sessions.options.loras],
        backend=sessions.backend,
        text_backend=sessions.text_backend,
        versions=dict(versions()),
    )


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages in use; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return MappingProxyType(found)
