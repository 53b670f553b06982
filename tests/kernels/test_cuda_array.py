"""Taking other libraries' arrays, and giving ours: what is said, waited for and refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError
from mutoscope.kernels import cuda_array, native
from mutoscope.kernels.cuda_array import CudaArray, adopt
from mutoscope.kernels.native import let_wait


class Stream:
    handle = 77
    device = SimpleNamespace(index=0)

    def __init__(self) -> None:
        self.led: list[int] = []

    def lead(self, follower: int) -> None:
        self.led.append(follower)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Any:
    """cuda-core's view of an array is the array; an error is raised."""

    def view(foreign: Any, stream_ptr: int) -> Any:
        assert stream_ptr == Stream.handle
        if isinstance(foreign, Exception):
            raise foreign
        return foreign

    views = SimpleNamespace(StridedMemoryView=SimpleNamespace(from_any_interface=view))
    monkeypatch.setattr(cuda_array, "import_cuda", lambda module: views)
    return Stream()


def viewed(**changed: Any) -> Any:
    told = {"ptr": 64, "shape": (2, 1, 3), "strides": (3, 9, 1), "dtype": np.dtype("f4")}
    return SimpleNamespace(**{**told, "device_id": 0, "is_device_accessible": True, **changed})


def test_an_array_is_taken_where_it_lies(stream: Any) -> None:
    for strides in ((3, 9, 1), None):
        foreign = viewed(strides=strides)
        array = adopt(foreign, stream)
        assert (array.pointer, array.shape, array.dtype) == (64, (2, 1, 3), "float32")
        assert (array.owner, array.stream) == (foreign, stream)


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (viewed(is_device_accessible=False), "an array on the device is needed"),
        (viewed(dtype=np.dtype("c8")), "an array on the device is needed"),
        (viewed(strides=(6, 3, 2)), "in C order without gaps"),
        (viewed(device_id=1), "an array on GPU 0 is needed, this one is on GPU 1"),
        (viewed(dtype=None), "no array can be had of this SimpleNamespace: "),
        (BufferError("has a mask"), "no array can be had of this BufferError: has a mask"),
        (AssertionError("stream 0"), "no array can be had of this AssertionError: stream 0"),
        (NotImplementedError("bfloat"), "DLPack failed: bfloat"),
    ],
)
def test_what_is_refused(stream: Any, foreign: Any, message: str) -> None:
    with pytest.raises(MutoscopeError) as caught:
        adopt(foreign, stream)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("consumer", "led"), [(None, [1]), (1, [1]), (5, [5]), (-1, []), (Stream.handle, [])]
)
def test_who_takes_ours_waits_for_it(
    stream: Any, monkeypatch: pytest.MonkeyPatch, consumer: int | None, led: list[int]
) -> None:
    view = SimpleNamespace(__dlpack__=lambda **options: options)
    monkeypatch.setattr(CudaArray, "_view", view)
    array = CudaArray(None, 64, (3,), "float32", stream)
    assert array.__dlpack__(stream=consumer, max_version=(1, 0)) == {"max_version": (1, 0)}
    assert stream.led == led


def test_a_stream_waits_for_another_by_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def call(name: str, *arguments: Any) -> list[Any]:
        calls.append((name, *arguments))
        if name == "cuStreamWaitEvent":
            raise MutoscopeError(f"{name} failed: CUDA_ERROR_INVALID_HANDLE")
        return ["event"] if name == "cuEventCreate" else []

    flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    monkeypatch.setattr(native, "import_cuda", lambda module: SimpleNamespace(CUevent_flags=flags))
    monkeypatch.setattr(native, "call_driver", call)
    with pytest.raises(MutoscopeError, match="INVALID_HANDLE"):
        let_wait(1, 77)
    assert calls == [
        ("cuEventCreate", 2),
        ("cuEventRecord", "event", 77),
        ("cuStreamWaitEvent", 1, "event", 0),
        ("cuEventDestroy", "event"),
    ]
