"""Our own operators for ONNX Runtime, compiled here, and graphs of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope.engine.backends.onnxruntime import native_operators
from mutoscope.engine.onnx_file import MESSAGES
from mutoscope.engine.protobuf import message_class
from numpy.typing import NDArray

CODES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int32): 6}

RunNode = Callable[..., list[NDArray[Any]]]
OpenNode = Callable[..., Callable[[], list[NDArray[Any]]]]


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
def open_node(operators: Path) -> OpenNode:
    """Opens a graph of one operator, of ours or of ONNX Runtime's, on two threads.

    Inputs that are `None` are left out.
    """
    ort = pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")

    def opened(
        op: str,
        inputs: Mapping[str, NDArray[Any] | None],
        outputs: Sequence[str],
        domain: str = "mutoscope",
        **attributes: float | Sequence[int],
    ) -> Callable[[], list[NDArray[Any]]]:
        feeds = {name: array for name, array in inputs.items() if array is not None}
        model = message_class("Model", MESSAGES)()
        for name, version in {"": 23, "com.microsoft": 1, "mutoscope": 1}.items():
            model.opset_import.add(domain=name, version=version)
        node = model.graph.node.add(op_type=op, domain=domain, name="node")
        node.input.extend(name if name in feeds else "" for name in inputs)
        node.output.extend(outputs)
        for name, value in attributes.items():
            if isinstance(value, int):
                node.attribute.add(name=name, i=value, type=2)
            elif isinstance(value, Sequence):
                node.attribute.add(name=name, ints=value, type=7)
            else:
                node.attribute.add(name=name, f=value, type=1)
        for name, array in feeds.items():
            given = model.graph.input.add(name=name)
            given.type.tensor_type.elem_type = CODES[array.dtype]
        for name in outputs:
            model.graph.output.add(name=name)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 2
        settings.log_severity_level = 4
        settings.register_custom_ops_library(str(operators))
        session = ort.InferenceSession(b"\x08\x0a" + model.SerializeToString(), settings)  # IR 10
        return lambda: list(session.run(list(outputs), feeds))

    return opened


@pytest.fixture
def run_node(open_node: OpenNode) -> RunNode:
    """Runs a graph of one of the operators."""
    return lambda *described, **attributes: open_node(*described, **attributes)()


@pytest.fixture
def denoiser_feeds() -> dict[str, NDArray[Any]]:
    """Inputs of the embedded denoiser: a batch of two, other sizes than it was made for."""
    rng = np.random.default_rng(0)
    return {
        "hidden_states": rng.standard_normal((2, 16, 3, 6, 10), np.float32),
        "timestep": np.full((2, 3), 500, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 20, 128), np.float32),
    }
