"""What measures the kernels' bandwidth, on the CPU that stands in for a GPU."""

from typing import Any

import numpy as np
import pytest
from mutoscope.bench import gpu_kernels
from mutoscope.bench.gpu_kernels import Bandwidths


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


def test_bandwidth_and_differences(cpu_stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(self: Any, shape: tuple[int, ...], dtype: str) -> Any:
        return self.upload(np.zeros(shape, dtype))

    monkeypatch.setattr(type(cpu_stream), "empty", empty, raising=False)
    monkeypatch.setattr(type(cpu_stream), "record", lambda self: Tick(), raising=False)
    monkeypatch.setattr(type(cpu_stream), "copy", lambda *arrays: None, raising=False)
    monkeypatch.setattr(type(cpu_stream), "synchronize", lambda self: None, raising=False)
    monkeypatch.setattr(gpu_kernels, "REPETITIONS", 2)
    found = Bandwidths(
        cpu_stream, (1, 16, 2, 30, 52), (1, 3, 2, 240, 416), attention=(1, 2, 150, 32)
    ).all()
    attention = found.pop("int8_attention")
    assert (attention["microseconds"], attention["tera_ops_s"]) == (1000.0, 0.0)
    assert attention["difference"] < 2**-11
    assert set(found) == {"copy", "noise", "guided_step", "relative_l1", "rgb8", "nv12"}
    # a millisecond for 2 * 3 * 2 * 240 * 416 floats
    assert found["copy"] == {"microseconds": 1000.0, "gb_s": 4.8}
    assert all(figure["difference"] <= 1e-6 for name, figure in found.items() if name != "copy")
