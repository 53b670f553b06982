"""Our own operators and ONNX Runtime's in turn; to be run in a process of its own.

Each function gives the seconds of ours and of theirs, the best of some rounds: a busy machine only
adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mutoscope.engine.backends.onnxruntime import convolution
from mutoscope.engine.backends.onnxruntime.native_operators import own_operators
from numpy.typing import NDArray
from one_node import Run, open_node

ROUNDS = 15
Seconds = tuple[float, float]


def attention() -> Seconds:
    """800 tokens in four heads."""
    feeds = {name: _random(1, 800, 512) for name in "qkv"}
    settings = {"num_heads": 4, "scale": 0.09}
    return _in_turn(
        _open("BlockedAttention", feeds, ["out", "workspace"], **settings),
        _open("MultiHeadAttention", feeds, ["out"], "com.microsoft", **settings),
    )


def convolutions(*, bf16: bool) -> Seconds:
    """96 channels of four frames."""
    x, weights, bias = _random(1, 96, 6, 40, 56), _random(96, 96, 3, 3, 3), _random(96)
    feeds = {"x": x, "weights": convolution.pack(weights, bf16=bf16), "bias": bias}
    plain = {"x": x, "weights": weights, "bias": bias}
    return _in_turn(
        _open("BlockedConvolution", feeds, ["y"], bf16=int(bf16), scale=1, kept=0),
        _open("Conv", plain, ["y"], "", pads=[0, 1, 1, 0, 1, 1]),
    )


def _open(*described: Any, **attributes: Any) -> Run:
    operators = own_operators()
    assert operators is not None
    return open_node(operators, *described, **attributes)


def _in_turn(*runs: Run) -> Seconds:
    for run in runs:
        run()
    ours, theirs = (min(times) for times in zip(*_rounds(runs), strict=True))
    return ours, theirs


def _rounds(runs: tuple[Run, ...]) -> list[list[float]]:
    return [[_seconds(run) for run in runs] for _ in range(ROUNDS)]


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)
