"""Our own operators for ONNX Runtime, compiled here, and graphs of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.engine.backends.onnxruntime import native_operators
from numpy.typing import NDArray
from one_node import open_node

RunNode = Callable[..., list[NDArray[Any]]]


@pytest.fixture(scope="module", params=["any machine", "AVX-512"])
def operators(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The library: the same source without instructions of its own, and with them."""
    if shutil.which(native_operators.COMPILER) is None:
        pytest.skip("there is no C++ compiler")
    flags = native_operators.BF16 if request.param == "AVX-512" else ()
    if flags and not native_operators.usable():
        pytest.skip("this CPU has no AVX-512 BF16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(tmp_path_factory.mktemp("operators")))
        yield native_operators.build(flags)


@pytest.fixture
def run_node(operators: Path) -> RunNode:
    """Runs a graph of one of the operators."""
    pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")
    return lambda *described, **attributes: open_node(operators, *described, **attributes)()


@pytest.fixture
def denoiser_feeds() -> dict[str, NDArray[Any]]:
    """Inputs of the embedded denoiser: a batch of two, other sizes than it was made for."""
    rng = np.random.default_rng(0)
    return {
        "hidden_states": rng.standard_normal((2, 16, 3, 6, 10), np.float32),
        "timestep": np.full((2, 3), 500, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 20, 128), np.float32),
    }
