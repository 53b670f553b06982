"""Graphs of a single operator, of ours or of ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mutoscope.engine.onnx_file import MESSAGES
from mutoscope.engine.protobuf import message_class
from numpy.typing import NDArray

CODES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int32): 6}

Feeds = Mapping[str, NDArray[Any] | None]
Run = Callable[[], list[NDArray[Any]]]


def open_node(
    operators: Path,
    op: str,
    inputs: Feeds,
    outputs: Sequence[str],
    domain: str = "mutoscope",
    **attributes: float | Sequence[int],
) -> Run:
    """What runs it on two threads.

    Args:
        operators: a library of them.
        op: its name.
        inputs: what it is given; `None` where an input is left out.
        outputs: their names.
        domain: of the operator.
        **attributes: of the node.
    """
    import onnxruntime as ort

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
