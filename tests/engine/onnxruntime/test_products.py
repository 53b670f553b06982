"""Our own product with weights of few bits for ONNX Runtime, compiled here, against float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions
from mutoscope.engine.backends.onnxruntime import denoiser, open_session, products
from mutoscope.engine.backends.onnxruntime.products import (
    fits_products,
    multiply_in_bf16,
    multiply_rest,
    pack,
)
from mutoscope.engine.onnx_file import MESSAGES, OnnxFile
from mutoscope.engine.protobuf import message_class
from mutoscope.quantize.weights import in_blocks
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

RunNode = Callable[..., list[NDArray[Any]]]
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
OPERATOR = "BlockedMatMulNBits"
ROUNDED = 2**-8
"""What bf16 takes of a number at most; decoded weights are rounded, each on its own."""


def decoded(stored: NDArray[np.uint8], scale: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """Weights (out, in) in float64, as ONNX Runtime's MatMulNBits has them."""
    if bits == 4:
        stored = np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:-1], -1)
    values = (stored.astype(np.float64) - 2 ** (bits - 1)) * scale[..., None]
    return values.reshape(len(values), -1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ((1, 32), 1),
        ((2, 3, 64), 8),
        ((1, 49, 96), 65),
        ((48, 1056), 7),
        ((1, 130, 2080), 130),
    ],
)
def test_the_same_as_in_float64(
    run_node: RunNode, shape: tuple[int, ...], outputs: int, bits: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    stored, scale = in_blocks(rng.standard_normal((shape[-1], outputs), np.float32), bits)
    settings = {"K": shape[-1], "N": outputs, "bits": bits, "block_size": 32}
    feeds = {"x": x, "weights": stored, "scales": scale}
    found, _ = run_node(OPERATOR, feeds, ["y", "workspace"], **settings)
    wanted = x.astype(np.float64) @ decoded(stored, scale, bits).T
    assert found.shape == (*shape[:-1], outputs)
    assert np.linalg.norm(found - wanted) <= ROUNDED * np.linalg.norm(wanted)


def test_a_matrix_of_bf16(run_node: RunNode) -> None:
    rng = np.random.default_rng(0)
    x, matrix = rng.standard_normal((2, 50, 96), np.float32), rng.standard_normal((96, 17))
    weights = pack(matrix.astype(np.float32))
    assert weights.shape == (17, 3, 64)
    settings = {"K": 96, "N": 17, "bits": 16, "block_size": 32}
    found, _ = run_node(OPERATOR, {"x": x, "weights": weights}, ["y", "workspace"], **settings)
    wanted = x @ matrix
    assert np.linalg.norm(found - wanted) <= ROUNDED * np.linalg.norm(wanted)


def test_a_denoiser_in_int8_has_the_rest_in_bf16(
    operators: Path, monkeypatch: pytest.MonkeyPatch, denoiser_feeds: dict[str, Any]
) -> None:
    """Here all of it is the rest: every product of the blocks, those of the prompt too."""
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(threads=2)
    feeds = denoiser_feeds
    monkeypatch.setattr(denoiser, "fits_blocks", lambda model, spec: True)
    monkeypatch.setattr(denoiser, "own_operators", lambda: operators)
    with open_session(bundle, "denoiser", options) as session:
        wanted = np.asarray(session.run(feeds)["sample"])
    monkeypatch.setattr(products, "LARGE", 0)
    with open_session(bundle, "denoiser", options) as session:
        found = np.asarray(session.run(feeds)["sample"])
        assert session.kernels == ("BlockedAttention", OPERATOR)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert 1e-5 < error < 1e-2


def test_only_large_matrices_are_taken() -> None:
    file = OnnxFile(Bundle.open(EMBEDDED), "denoiser")
    assert multiply_rest(file.model, file) == {}
    before = Counter(node.op_type for node in file.model.graph.node)["MatMul"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "LARGE", 192 * 576)
        taken = multiply_rest(file.model, file)
    layers = 8
    assert len(taken) == 2 * layers  # the two of each feed-forward
    after = Counter(node.op_type for node in file.model.graph.node)
    assert after["MatMul"] == before - len(taken)
    assert after[OPERATOR] == len(taken)


def test_what_both_hold_is_exact(run_node: RunNode) -> None:
    """Whole numbers, and scales that are powers of two."""
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, (1, 50, 64)).astype(np.float32)
    stored = rng.integers(0, 256, (9, 2, 32)).astype(np.uint8)
    scale = np.exp2(rng.integers(-3, 4, (9, 2))).astype(np.float32)
    settings = {"K": 64, "N": 9, "bits": 8, "block_size": 32}
    feeds = {"x": x, "weights": stored, "scales": scale}
    found, _ = run_node(OPERATOR, feeds, ["y", "workspace"], **settings)
    np.testing.assert_array_equal(found, x @ decoded(stored, scale, 8).T)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": (1, 4, 32)}, "the input is of another width"),
        ({"weights": (8, 2, 16)}, "the weights are not what K, N and bits say"),
        ({"scales": (8, 3)}, "scales and weights do not fit"),
    ],
)
def test_what_does_not_fit(
    run_node: RunNode, change: dict[str, tuple[int, ...]], said: str
) -> None:
    shapes = {"x": (1, 4, 64), "weights": (8, 2, 32), "scales": (8, 2)} | change
    types = {"weights": np.uint8}
    feeds = {name: np.zeros(shape, types.get(name, np.float32)) for name, shape in shapes.items()}
    with pytest.raises(Exception, match=said):
        run_node(OPERATOR, feeds, ["y", "w"], K=64, N=8, bits=8, block_size=32)


@pytest.mark.parametrize(
    "change", [{"block_size": 64}, {"bits": 2}, {"K": 48}, {"inputs": ["x", "w", "s", "zeros"]}]
)
def test_only_what_it_can_compute_is_replaced(change: dict[str, Any]) -> None:
    def model(inputs: list[str], **numbers: int) -> Any:
        model = message_class("Model", MESSAGES)()
        node = model.graph.node.add(op_type="MatMulNBits", domain="com.microsoft")
        node.input.extend(inputs)
        node.output.append("y")
        for name, value in numbers.items():
            node.attribute.add(name=name, i=value, type=2)
        model.graph.output.add(name="y")
        return model

    usual: dict[str, Any] = {
        "inputs": ["x", "w", "s"],
        "K": 64,
        "N": 8,
        "bits": 8,
        "block_size": 32,
    }
    fitting, other = model(**usual), model(**{**usual, **change})
    assert fits_products(fitting)
    assert not fits_products(other)
    for changed in (fitting, other):
        multiply_in_bf16(changed)
    assert [node.op_type for node in fitting.graph.node] == [OPERATOR]
    assert [node.op_type for node in other.graph.node] == ["MatMulNBits"]
