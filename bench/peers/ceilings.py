"""What the device can do at best: every other figure is read against these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .timing import seconds

COPIED = 1 << 30
SIDE = 8192
DTYPES = ("bfloat16", "float16", "float32")


def measure(
    device: str, *, copied: int = COPIED, side: int = SIDE, dtypes: Sequence[str] = DTYPES
) -> dict[str, Any]:
    """Copy bandwidth in GB/s (10^9, read and written), and matmul rates in TFLOP/s (TOP/s)."""
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"copy_gb_s": 2 * copied / seconds(lambda: target.copy_(source), device) / 1e9}
    for name in dtypes:
        square = torch.randn(side, side, device=device).to(getattr(torch, name))
        found[f"{name}_tflop_s"] = _rate(torch.mm, square, device)
    whole = torch.randint(-128, 128, (side, side), dtype=torch.int8, device=device)
    found["int8_top_s"] = _rate(torch._int_mm, whole, device)  # noqa: SLF001 - it has no public name
    return {name: round(value, 3) for name, value in found.items()}


def onnxruntime_rate(side: int, threads: int) -> float:
    """ONNX Runtime's fp32 matmul in TFLOP/s: PyTorch's own is far from what some CPUs can do."""
    import numpy as np
    from onnx import TensorProto, helper
    from onnxruntime import InferenceSession, SessionOptions

    square = [side, side]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in names]
        for names in ("ab", "c")
    )
    graph = helper.make_graph([helper.make_node("MatMul", "ab", "c")], "matmul", inputs, outputs)
    options = SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    matrix = np.random.default_rng(0).standard_normal(square, np.float32)
    spent = seconds(lambda: session.run(None, {"a": matrix, "b": matrix}), "cpu")
    return round(2 * float(side) ** 3 / spent / 1e12, 3)


def _rate(multiply: Callable[[Tensor, Tensor], Tensor], square: Tensor, device: str) -> float:
    """Operations a second, in 10^12; the right matrix is transposed, as int8 wants it."""
    spent = seconds(lambda: multiply(square, square.T), device)
    return 2 * float(len(square)) ** 3 / spent / 1e12
