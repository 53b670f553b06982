"""`--verify`: every graph of a new bundle, and a whole clip, against the family's own code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..engine.bundle import Bundle
from ..engine.manifest import Check, Manifest, Precision
from ..errors import MutoscopeError

Array = NDArray[Any]
Run = Callable[[str, dict[str, Array]], dict[str, Array]]
"""Run a graph of the bundle by name on arrays by name."""

RELATIVE_ERROR: dict[Precision, float] = {"fp32": 1e-5, "fp16": 5e-3}
"""Bounds of |graph - PyTorch| / |PyTorch|. Summing in another order costs a few 1e-7 in fp32; one
rounding to fp16 is 5e-4, and some tens of them add up like a random walk."""

PSNR: dict[Precision, float] = {"fp32": 50.0, "fp16": 40.0}
"""Bounds of the clips' likeness in dB. A step of one in every 8-bit value makes 48 dB. In fp16 the
steps of the loop add up, and guidance multiplies what differs."""

SAME = 100.0
"""What is written for equal clips, whose PSNR is infinite."""


class VerifyError(MutoscopeError):
    """The bundle differs from PyTorch by more than its bounds; `checks` has every figure."""

    def __init__(self, checks: Sequence[Check]) -> None:
        failed = [check for check in checks if not check.passed]
        super().__init__(
            f"{len(failed)} of {len(checks)} checks failed, no bundle was written: "
            + "; ".join(f"{c.graph} {c.case}: {c.metric} {c.value:.3g}" for c in failed)
        )
        self.checks = tuple(checks)


@dataclass(frozen=True)
class Comparison:
    """An output of a graph and what it should be."""

    graph: str
    case: str
    got: Array
    wanted: Array


@dataclass(frozen=True)
class ClipRequest:
    """A clip to make twice: with the bundle, and with PyTorch from the same noise.

    An image is uint8 (height, width, 3), of the clip's size; the prompt is padded to
    `max_sequence_length` tokens.
    """

    prompt: str
    width: int
    height: int
    frames: int
    steps: int
    guidance_scale: float
    guidance_scale_2: float | None
    latents: NDArray[np.float32]
    max_sequence_length: int
    image: NDArray[np.uint8] | None = None


class Reference(Protocol):
    """The family's own code on the checkpoint, in fp32."""

    def compare(self, graphs: Sequence[str], run: Run) -> Iterator[Comparison]:
        """Run graphs of the bundle, and the same in PyTorch, on shapes that were never traced."""

    def clip(self, request: ClipRequest) -> NDArray[np.uint8]:
        """Frames (frames, height, width, 3) of a whole clip."""


def verify(folder: Path, manifest: Manifest, reference: Reference) -> tuple[Check, ...]:
    """Compare the graphs in a folder, and a clip if all that it takes is there.

    Raises:
        VerifyError: a figure is beyond its bound.
    """
    from ..engine import EngineOptions, Sessions

    identity = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
    bundle = Bundle(folder, manifest, identity)
    with Sessions(bundle, "onnxruntime", EngineOptions()) as sessions:

        def run(name: str, feeds: dict[str, Array]) -> dict[str, Array]:
            return {k: np.asarray(v) for k, v in sessions(name).run(feeds).items()}

        compared = reference.compare(list(manifest.graphs), run)
        checks = [error_check(bundle, comparison) for comparison in compared]
        checks += [
            clip_check(bundle, sessions, reference, request) for request in clip_requests(manifest)
        ]
    if not all(check.passed for check in checks):
        raise VerifyError(checks)
    return tuple(checks)


def error_check(bundle: Bundle, comparison: Comparison) -> Check:
    """The relative error of one output, in the norm of all its values."""
    wanted = comparison.wanted.astype(np.float64)
    value = shorten(np.linalg.norm(comparison.got - wanted) / np.linalg.norm(wanted))
    bound = RELATIVE_ERROR[bundle.graph(comparison.graph).precision]
    return Check(
        graph=comparison.graph,
        case=comparison.case,
        metric="relative error",
        value=value,
        bound=bound,
        passed=value <= bound,
    )


def clip_check(bundle: Bundle, sessions: Any, reference: Reference, request: ClipRequest) -> Check:
    """The likeness of a whole clip."""
    from ..runtime.pipeline import Pipeline

    told = {"prompt", "max_sequence_length"}
    options = {k: v for k, v in vars(request).items() if k not in told}
    clip = Pipeline(bundle, sessions)(request.prompt, **options)
    value = shorten(psnr(clip.frames, reference.clip(request)))
    bound = PSNR[bundle.precision]
    case = f"{request.width}x{request.height}, {request.frames} frames, {request.steps} steps"
    return Check(
        graph="clip",
        case=case if request.image is None else f"{case}, from an image",
        metric="PSNR in dB",
        value=value,
        bound=bound,
        passed=value >= bound,
    )


def clip_requests(manifest: Manifest) -> Iterator[ClipRequest]:
    """The clips that the graphs of a bundle can make: of a prompt, and of an image too."""
    if not {"text_encoder", "vae_decoder_first", "vae_decoder_next"} <= manifest.graphs.keys():
        return
    from ..runtime.conditioning import graphs_for_image

    request = smallest_request(manifest)
    if manifest.denoiser.image != "channels":
        yield request
    needed = graphs_for_image(manifest, request.frames)
    if manifest.denoiser.image is not None and set(needed) <= manifest.graphs.keys():
        size = (request.height, request.width, 3)
        image = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        yield replace(request, image=image)


def smallest_request(manifest: Manifest) -> ClipRequest:
    """A few steps of a clip of 3 latent frames and 4 x 5 patches."""
    space = manifest.latents
    patch_frames, patch_height, patch_width = space.patch_size
    frames, height, width = 3 * patch_frames, 4 * patch_height, 5 * patch_width
    noise = np.random.default_rng(0).standard_normal((1, space.channels, frames, height, width))
    return ClipRequest(
        prompt="a red circle moves left to right",
        width=width * space.spatial_compression,
        height=height * space.spatial_compression,
        frames=1 + (frames - 1) * space.temporal_compression,
        steps=6,
        guidance_scale=manifest.defaults.guidance_scale,
        guidance_scale_2=manifest.defaults.guidance_scale_2,
        latents=noise.astype(np.float32),
        max_sequence_length=manifest.text.max_tokens,
    )


def psnr(got: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of 8-bit frames in dB, at most `SAME`."""
    error = np.square(got.astype(np.float64) - wanted).mean()
    return SAME if error == 0 else min(SAME, float(10 * np.log10(255**2 / error)))


def shorten(value: float | np.floating[Any]) -> float:
    """Three digits of a figure; the others are not the same twice."""
    return float(f"{value:.3g}")


def table(checks: Sequence[Check]) -> str:
    """The checks, one line each."""
    rows = [("graph", "case", "metric", "value", "bound", "")]
    rows += [
        (c.graph, c.case, c.metric, f"{c.value:.3g}", f"{c.bound:g}", "" if c.passed else "FAILED")
        for c in checks
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
