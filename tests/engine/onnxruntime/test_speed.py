"""Our own operators against ONNX Runtime's, in turn, so that a busy machine slows both.

Measured when this was written: 0.34 to 0.47 of its time for attention, 0.60 to 0.86 for
convolutions in fp32, 0.36 to 0.46 in bf16. What the bounds guard against is a compiler that stores
sums in memory again, which takes 2.5 times as long (docs/lab.md). Products with few bits have no
such test: ONNX Runtime's are only themselves with weights that are constants of a graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mutoscope.engine.backends.onnxruntime import convolution, native_operators
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")
if not native_operators.usable():
    pytest.skip("this CPU has no AVX-512 BF16, or there is no compiler", allow_module_level=True)

pytestmark = pytest.mark.quiet
OpenNode = Callable[..., Callable[[], list[NDArray[Any]]]]
ROUNDS = 15


@pytest.fixture(scope="module")
def operators() -> Any:
    """The library as it is used."""
    return native_operators.own_operators()


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any]) -> float:
    """Of the best times of each in some rounds: a busy machine only adds."""

    def seconds(run: Callable[[], Any]) -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    for run in (ours, theirs):
        run()
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    best, their_best = map(min, zip(*rounds, strict=True))
    return best / their_best


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_attention(open_node: OpenNode) -> None:
    feeds = {name: random(1, 800, 512) for name in "qkv"}
    settings = {"num_heads": 4, "scale": 0.09}
    ours = open_node("BlockedAttention", feeds, ["out", "workspace"], **settings)
    theirs = open_node("MultiHeadAttention", feeds, ["out"], "com.microsoft", **settings)
    assert ratio(ours, theirs) <= 0.8


@pytest.mark.parametrize(("bf16", "most"), [(False, 1.3), (True, 0.8)], ids=["fp32", "bf16"])
def test_convolutions(open_node: OpenNode, bf16: bool, most: float) -> None:
    x, weights, bias = random(1, 96, 6, 40, 56), random(96, 96, 3, 3, 3), random(96)
    packed = convolution.pack(weights, bf16=bf16)
    feeds = {"x": x, "weights": packed, "bias": bias}
    ours = open_node("BlockedConvolution", feeds, ["y"], bf16=int(bf16), scale=1, kept=0)
    plain = {"x": x, "weights": weights, "bias": bias}
    theirs = open_node("Conv", plain, ["y"], "", pads=[0, 1, 1, 0, 1, 1])
    assert ratio(ours, theirs) <= most
