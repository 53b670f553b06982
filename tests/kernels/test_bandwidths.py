"""What measures the kernels' bandwidth, on the CPU that stands in for a GPU."""

import re
from typing import Any

import numpy as np
import pytest
from cpu_device import KERNEL_NAMES
from mutoscope.bench import gpu_kernels
from mutoscope.bench.gpu_kernels import Bandwidths
from mutoscope.kernels.compiler import SOURCES, read_source
from mutoscope.kernels.device import DTYPES


class Tick:
    """An event; each is a millisecond later than the one before."""

    count = 0

    def __init__(self) -> None:
        Tick.count += 1
        self.time = Tick.count

    def synchronize(self) -> None:
        pass

    def milliseconds_since(self, earlier: "Tick") -> float:
        return self.time - earlier.time


def test_every_kernel_is_measured_and_compared(
    cpu_stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(self: Any, shape: tuple[int, ...], dtype: str) -> Any:
        return self.upload(np.zeros(shape, DTYPES[dtype]), dtype)

    monkeypatch.setattr(type(cpu_stream), "empty", empty, raising=False)
    monkeypatch.setattr(type(cpu_stream), "record", lambda self: Tick(), raising=False)
    monkeypatch.setattr(gpu_kernels, "REPETITIONS", 2)
    monkeypatch.setattr(gpu_kernels, "ROUNDS", 1)
    cpu_stream.calls.clear()
    found = Bandwidths(
        cpu_stream, (1, 16, 2, 30, 52), (1, 3, 2, 60, 104), attention=(1, 2, 150, 32)
    ).all()
    assert kernels() <= {kind(call.removeprefix("launch ")) for call in cpu_stream.calls}
    attention = found.pop("int8_attention")
    assert (attention["microseconds"], attention["tflop_s"]) == (500.0, 0.0)
    assert attention["difference"] < 2**-11
    # half a millisecond for 2 * 3 * 2 * 60 * 104 floats
    assert found.pop("copy") == {"microseconds": 500.0, "gb_s": 0.6}
    assert set(found) == {"noise", *gpu_kernels.MEMORY_BOUND}
    assert {name: figure["difference"] for name, figure in found.items()} == dict.fromkeys(found, 0)
    assert all(figure["share_of_copy"] == 1 for figure in found.values())


def kernels() -> set[str]:
    """Every kernel of every source, whatever its types and head size."""
    texts = [read_source(source) for source in SOURCES]
    return {kind(one or other) for text in texts for one, other in KERNEL_NAMES.findall(text)}


def kind(kernel: str) -> str:
    return re.sub(r"_(float32|float16|bfloat16)|_\d+$", "", kernel)
