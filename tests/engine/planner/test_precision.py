"""Weights counted, and what they would take in other precisions, on the embedded bundle."""

from __future__ import annotations

import math
from pathlib import Path

import mutoscope
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.planner import Needs, in_precision, needs

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

AXES = {"batch": 1, "tokens": 7, "latent_frames": 3, "latent_height": 4, "latent_width": 6}


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return Bundle.open(Path(mutoscope.__file__).parent / "models" / "mini-wan")


def told(bundle: Bundle, name: str) -> Needs:
    return needs(bundle, name, AXES)


@pytest.mark.parametrize("name", ["denoiser", "text_encoder"])
def test_products_are_counted(embedded: Bundle, name: str) -> None:
    """Those of linear layers are stored transposed, as nothing else is."""
    tensors = OnnxFile(embedded, name).model.graph.initializer
    shapes = {tensor.name: tuple(tensor.dims) for tensor in tensors}
    linear = sum(math.prod(s) for n, s in shapes.items() if ".transposed" in n and len(s) == 2)
    weights = told(embedded, name).weights
    assert weights.products == linear > 0
    assert weights.product_bytes == 4 * linear  # of an fp32 bundle
    stored = [math.prod(tensor.dims) for tensor in tensors if tensor.data_type == 10]  # fp16
    assert weights.widened == 2 * max(stored)
    assert weights.largest == 4 * max(math.prod(shape) for shape in shapes.values())


def test_fp16_halves_what_a_gpu_holds(embedded: Bundle) -> None:
    whole = told(embedded, "vae_decoder_first")
    half = in_precision(whole, "vae_decoder_first", "fp16")
    assert half.gpu.weights == whole.gpu.weights // 2
    assert half.gpu.live == whole.gpu.live // 2
    assert half.cpu == whole.cpu


@pytest.mark.parametrize(
    ("name", "precision", "stored"),
    [
        ("denoiser", "int8", 1), ("denoiser", "int4", 0.625),
        ("text_encoder", "int8", 1.125), ("text_encoder", "int4", 0.625),
    ],
)  # fmt: skip
def test_quantized_products_take_fewer_bytes(
    embedded: Bundle, name: str, precision: str, stored: float
) -> None:
    whole = told(embedded, name)
    fewer = in_precision(whole, name, precision)
    spared = whole.weights.products * (4 - stored)
    assert whole.cpu.weights - fewer.cpu.weights == pytest.approx(spared, abs=1)
    on_gpu = whole.gpu.weights - fewer.gpu.weights
    assert on_gpu == (pytest.approx(spared, abs=1) if name == "denoiser" else 0)
    assert (fewer.cpu.arena, fewer.gpu.live) == (whole.cpu.arena, whole.gpu.live)


def test_the_autoencoder_is_not_quantized(embedded: Bundle) -> None:
    whole = told(embedded, "vae_decoder_next")
    assert in_precision(whole, "vae_decoder_next", "int8") == whole
