"""How to quantize: what may be asked, of which bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.bundle import Bundle
from ..errors import UserError, unknown
from .grid import float8

LADDERS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnxruntime": {"int8": ("int8",), "int4": ("int4-weights", "int8-weights")},
    "tensorrt-rtx": {"int8": ("int8-static",), "fp8": ("fp8-static",)},
}
"""Formats of a denoiser's products by backend and by the precision that is asked for, the smallest
first."""

SOURCES = {"onnxruntime": ("fp32",), "tensorrt-rtx": ("fp32", "fp16")}
"""The precisions that a bundle may have before."""

TEXT_FORMATS = {"int8": "int8-weights", "int4": "int4-weights"}
KEEP = "keep"
TEXT_ENCODERS = (*TEXT_FORMATS, KEEP)


@dataclass(frozen=True)
class Options:
    """How to quantize.

    Attributes:
        precision: of the denoisers' products.
        backend: what the bundle is for.
        text_encoder: of its products, for ONNX Runtime on the CPU whatever the backend is; `keep`
            leaves it as it is; by default int8 for `onnxruntime`, else `keep`.
        target_error: of the denoisers' predictions at each step, a share; formats are chosen to
            stay within it.
        calibration: clips that are made to see what the denoisers are given.
        prompts: clips that are made to see what was lost.
        request: fields of `Request` for all clips, e.g. steps, width, height.
        seed: of the first clip's noise.
        accept_quality: write a bundle that misses the quality gate all the same.
        threads: CPU threads; by default all cores.
        overwrite: replace a bundle that is there.
    """

    precision: str = "int8"
    backend: str = "onnxruntime"
    text_encoder: str | None = None
    target_error: float = 0.0175
    calibration: int = 4
    prompts: int = 8
    request: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    accept_quality: bool = False
    threads: int | None = None
    overwrite: bool = False

    @property
    def ladder(self) -> tuple[str, ...]:
        """The formats of the denoisers' products, the smallest first."""
        return LADDERS[self.backend][self.precision]


def check_options(options: Options) -> None:
    """Refuse options that cannot be.

    Raises:
        UserError: says which.
        MissingExtraError: fp8 takes a package that is not installed.
    """
    if options.backend not in LADDERS:
        raise UserError(unknown("backend to quantize for", options.backend, LADDERS))
    if options.precision == "fp8" and options.backend == "onnxruntime":
        raise UserError(
            "onnxruntime has no products in fp8, it would decode them to fp32 and gain nothing; "
            "use --precision int8, or --backend tensorrt-rtx for GPUs from sm_89 on"
        )
    if options.precision not in LADDERS[options.backend]:
        raise UserError(
            unknown(f"precision for {options.backend}", options.precision, LADDERS[options.backend])
        )
    if options.text_encoder not in {None, *TEXT_ENCODERS}:
        raise UserError(
            unknown("text encoder's precision", str(options.text_encoder), TEXT_ENCODERS)
        )
    if options.precision == "fp8":
        float8()


def check_bundle(bundle: Bundle, backend: str) -> None:
    """Refuse a bundle that cannot be quantized.

    Raises:
        UserError: says why, and what to do.
    """
    if bundle.manifest.quantization is not None or bundle.precision not in {"fp32", "fp16"}:
        raise UserError(
            f"{bundle.path} is quantized already ({bundle.precision}); "
            "quantize the bundle that it was made of"
        )
    if bundle.precision not in SOURCES[backend]:
        raise UserError(
            f"{bundle.path} is {bundle.precision}, beside which {backend} computes no int8; "
            "export the checkpoint in fp32 and quantize that"
        )
