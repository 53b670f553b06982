"""Our own product with weights of few bits for ONNX Runtime, compiled here, against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mutoscope.engine.backends.onnxruntime.products import fits_products, multiply_in_bf16
from mutoscope.engine.onnx_file import MESSAGES
from mutoscope.engine.protobuf import message_class
from mutoscope.quantize.weights import in_blocks
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

RunNode = Callable[..., list[NDArray[Any]]]
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

    usual = {"inputs": ["x", "w", "s"], "K": 64, "N": 8, "bits": 8, "block_size": 32}
    fitting, other = model(**usual), model(**{**usual, **change})  # type: ignore[arg-type]
    assert fits_products(fitting)
    assert not fits_products(other)
    for changed in (fitting, other):
        multiply_in_bf16(changed)
    assert [node.op_type for node in fitting.graph.node] == [OPERATOR]
    assert [node.op_type for node in other.graph.node] == ["MatMulNBits"]
