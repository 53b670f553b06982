"""What a backend makes of a model on this machine: how long it takes to open, and to run."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ..engine import Bundle, EngineOptions, EngineStore, Tensor, open_graph
from ..engine.backends.tensorrt.engines import build_engine, describe
from ..engine.backends.tensorrt.int8_attention import FLAG
from ..engine.backends.tensorrt.package import PACKAGES
from ..engine.int8_attention import takes_part
from ..engine.manifest import DECODERS, TEXT_ENCODER
from ..engine.open import GpuBackend, find_backend
from ..engine.profiles import LatentSize
from ..errors import UserError
from ..kernels.device import Stream
from ..runtime.conditioning import Conditioning
from ..runtime.vae import CACHE_OUT
from .gpu_times import timed
from .wan_inputs import TIMESTEP, decoder_inputs, denoiser_inputs, prompt_inputs

GPU_BACKENDS = ("onnxruntime-cuda", "onnxruntime-rtx", "tensorrt", "tensorrt-rtx")
GB = 2**30


def open_stream(backend: str) -> Stream | None:
    """A stream for a backend's sessions; `None` for one of the CPU.

    Raises:
        UserError: what it needs is not here.
    """
    opener = find_backend(backend)
    gpu = hasattr(opener, "open_stream")
    return cast("GpuBackend", opener).open_stream() if gpu else None


def found(backend: str) -> dict[str, Any]:
    """Whether a backend of GPUs can run here, its version and its GPU, or what it lacks."""
    package = PACKAGES.get(backend)
    try:
        stream = open_stream(backend)
        assert stream is not None
        if package is not None and package.ahead_of_time:
            package.check_targets((stream.device.arch,))
    except UserError as error:
        return {"runs": False, "reason": str(error)}
    module = importlib.import_module(package.module if package else "onnxruntime")
    gpu = stream.device
    return {"runs": True, "version": module.__version__, "gpu": gpu.name, "arch": gpu.arch}


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        bundle: whose graph.
        size: of the latents.
        batch: how many predictions of the denoiser at once.
        int8_attention: whether its attention is computed in int8.
    """

    bundle: Path
    size: LatentSize
    batch: int = 1
    int8_attention: bool = False

    def feeds(self, bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
        """Of a denoiser: random latents and text, the same each time."""
        text, channels = bundle.manifest.text, bundle.manifest.latents.channels
        shape = (self.batch, channels, self.size.frames, self.size.height, self.size.width)
        latents, embeddings = denoiser_inputs(shape, text.max_tokens, text.embedding_dim)
        by_frame = bundle.manifest.denoiser.image == "first_frame"
        given: Conditioning[Any] = Conditioning(by_frame)
        return {
            "hidden_states": latents,
            "timestep": given.timesteps(TIMESTEP, latents),
            "encoder_hidden_states": embeddings,
        }

    def text(self, bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
        """Of a text encoder: a prompt as long as any, the last quarter of it padding."""
        ids, mask = prompt_inputs(bundle.manifest.text.max_tokens)
        return {"input_ids": ids, "attention_mask": mask}

    def latent_frame(self, bundle: Bundle) -> np.ndarray[Any, Any]:
        """Of a VAE's decoder: random, the same each time."""
        channels = bundle.manifest.latents.channels
        return decoder_inputs((1, channels, 1, self.size.height, self.size.width))


def denoiser(backend: str, case: Case, *, beside_cpu: bool = False) -> dict[str, Any]:
    """What `predict` measures; beside the CPU's output also the `error`.

    That is the largest difference over the CPU's largest value.

    Raises:
        UserError: what the backend needs is not here, or it is for other GPUs.
    """
    figures, values = predict(backend, case)
    return {**figures, **({"error": _error(values, case)} if beside_cpu else {})}


def predict(backend: str, case: Case) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Build a denoiser's engine where the backend builds any, open it, run it.

    Returns:
        The shape of the latents, and what `Measured` says; then what came out.

    Raises:
        UserError: as for `denoiser`.
    """
    measured = Measured(
        backend,
        Bundle.open(case.bundle),
        case.size,
        open_stream(backend),
        int8_attention=case.int8_attention,
    )
    figures, outputs = measured("denoiser", case.feeds(measured.bundle))
    values = np.asarray(outputs["sample"])
    return {"latents": list(values.shape), **figures}, values


def text_encoder(backend: str, case: Case) -> dict[str, Any]:
    """The same of a text encoder."""
    measured = Measured(backend, Bundle.open(case.bundle), case.size, open_stream(backend))
    feeds = case.text(measured.bundle)
    figures, _ = measured(TEXT_ENCODER, feeds)
    return {"tokens": feeds["input_ids"].size, **figures}


def vae_decoder(backend: str, case: Case) -> dict[str, dict[str, Any]]:
    """The same of a VAE's decoder, as `decoder_calls` says."""
    measured = Measured(backend, Bundle.open(case.bundle), case.size, open_stream(backend))
    return decoder_calls(measured, case.latent_frame(measured.bundle))


def decoder_calls(measure: Measure, latents: np.ndarray[Any, Any]) -> dict[str, dict[str, Any]]:
    """What the first latent frame of a clip takes in a VAE's decoder, and what a later one.

    The later one writes over the results of the run before, as a clip's do.

    Args:
        measure: runs a graph of that name; gives figures, and what came out.
        latents: (1, channels, 1, height, width).
    """
    first, outputs = measure(DECODERS[0], {"latents": latents}, over=False)
    outputs.pop("frames")
    cache = {name.removeprefix(CACHE_OUT): array for name, array in outputs.items()}
    later, _ = measure(DECODERS[1], {"latents": latents, **cache}, over=True)
    return dict(zip(DECODERS, (first, later), strict=True))


class Measure(Protocol):
    """Measures runs of a graph."""

    def __call__(
        self, name: str, feeds: Mapping[str, Tensor], *, over: bool
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Figures, and what came out; `over`: each run writes over the results before."""


@dataclass(frozen=True)
class Measured:
    """Builds, opens and runs graphs, and tells what that took.

    Called, it gives seconds to build and to open, and of the first run (an engine may be compiled
    then); milliseconds of one run among many in a row on the device, and of handing one over;
    joules of a run; GB of device memory that were taken between beginning and end, which the pool
    keeps, so that it is the most; whether every number that came out is finite, but for a VAE's
    cache; then the outputs.

    Attributes:
        backend: its name.
        bundle: whose graphs.
        size: of the latents.
        stream: of the backend's GPU.
        int8_attention: as of `EngineOptions`.
    """

    backend: str
    bundle: Bundle
    size: LatentSize
    stream: Stream | None
    int8_attention: bool = False

    def __call__(
        self, name: str, feeds: Mapping[str, Tensor], *, over: bool = False
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Of one graph; `over`: each run writes over the results of the one before."""
        before = self._memory()
        built = self.build(name)
        began = time.perf_counter()
        options = EngineOptions(stream=self.stream, int8_attention=self.int8_attention)
        with open_graph(self.bundle, name, backend=self.backend, options=options) as session:
            opened = time.perf_counter() - began
            times, outputs = timed(session, feeds, self.stream, over=over)
            shown = [v for n, v in outputs.items() if not n.startswith(CACHE_OUT)]
            finite = all(np.isfinite(np.asarray(output)).all() for output in shown)
            used = self._memory() - before
        return {
            "precision": self.bundle.graph(name).precision,
            **built,
            "open_seconds": round(opened, 3),
            **times,
            **({"memory_gb": round(used / GB, 3)} if self.stream else {}),
            "finite": bool(finite),
        }, outputs

    def build(self, name: str) -> dict[str, Any]:
        """Build an engine for the GPU, where the backend builds any: seconds, size, layers."""
        package = PACKAGES.get(self.backend)
        if package is None or self.stream is None:
            return {}
        flags = [FLAG] if self.int8_attention and takes_part(self.bundle, name) else []
        spec = describe(
            package, self.bundle, name, [self.size], flags=flags, device=self.stream.device
        )
        record = build_engine(EngineStore(), self.bundle, spec, None, lambda *_: None).record
        return {
            "build_seconds": record.seconds,
            "engine_mb": round(record.plan.size / 1e6, 1),
            "layers": record.layers,
        }

    def _memory(self) -> int:
        return self.stream.device.memory_in_use() if self.stream else 0


def _error(values: np.ndarray[Any, Any], case: Case) -> float:
    bundle = Bundle.open(case.bundle)
    with open_graph(bundle, "denoiser") as session:
        wanted = np.asarray(session.run(case.feeds(bundle))["sample"])
    return float(f"{np.abs(values - wanted).max() / np.abs(wanted).max():.3g}")
