"""A fake of TensorRT's and cuda-core's API, as far as a session uses it, that records its calls.

The fake device's memory is host memory; a fake engine gives the double of its input.
"""

from __future__ import annotations

import enum
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from mutoscope.engine.bundle import Bundle, describe_files
from mutoscope.engine.manifest import GraphSpec, TensorSpec, write_manifest

ARCH = "89"
DTYPES = {"float32": np.float32, "float16": np.float16, "int64": np.int64}


@dataclass
class Recorder:
    """What was called, in order, and what the fakes are to answer."""

    calls: list[str] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)
    tensors: dict[str, tuple[str, bool]] = field(default_factory=dict)  # dtype, whether an input
    invalid: int = 0
    opens: bool = True
    runs: bool = True
    caches: list[bytes] = field(default_factory=list)


class FakeBuffer:
    addresses = itertools.count(0x1000, 0x1000)

    def __init__(self, recorder: Recorder, size: int, kind: str) -> None:
        self.recorder, self.kind, self.size = recorder, kind, size
        self.data = np.zeros(size, np.uint8)
        self.handle = next(self.addresses)
        recorder.memory[self.handle] = self

    def copy_from(self, source: FakeBuffer, *, stream: Any) -> None:
        self.recorder.calls.append(f"{source.kind} to {self.kind}")
        self.data[:] = source.data

    def copy_to(self, target: FakeBuffer, *, stream: Any) -> None:
        target.copy_from(self, stream=stream)

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()


def fake_cuda(recorder: Recorder) -> ModuleType:
    stream = SimpleNamespace(handle=7, sync=lambda: recorder.calls.append("sync"))
    device = SimpleNamespace(
        arch=ARCH,
        name="NVIDIA GeForce RTX 4090",
        set_current=lambda: None,
        create_stream=lambda: stream,
        allocate=lambda size, *, stream: FakeBuffer(recorder, size, "device"),
    )
    core = ModuleType("cuda.core")
    core.Device = lambda ordinal: device  # type: ignore[attr-defined]
    core.system = SimpleNamespace(get_user_mode_driver_version=lambda: (13, 0))  # type: ignore[attr-defined]
    core.LegacyPinnedMemoryResource = lambda: SimpleNamespace(  # type: ignore[attr-defined]
        allocate=lambda size: FakeBuffer(recorder, size, "host")
    )
    return core


class FakeContext:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.shapes, self.addresses = recorder, {}, {}
        recorder.contexts.append(self)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.recorder.calls.append(f"shape {name} {list(shape)}")
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return next(iter(self.shapes.values()))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.recorder.calls.append(f"bind {name}")
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.recorder.calls.append(f"execute on {stream}")
        (source,) = [n for n, (_, is_input) in self.recorder.tensors.items() if is_input]
        given = self._array(source)
        for name, (_, is_input) in self.recorder.tensors.items():
            if not is_input:
                self._array(name)[:] = 2 * given
        return self.recorder.runs

    def _array(self, name: str) -> Any:
        data = self.recorder.memory[self.addresses[name]].data
        return data.view(DTYPES[self.recorder.tensors[name][0]])


def fake_tensorrt(recorder: Recorder) -> ModuleType:
    validity = enum.IntEnum("EngineValidity", {"VALID": 0, "SUBOPTIMAL": 1, "INVALID": 2})
    bits = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}

    class Logger:
        ERROR, INTERNAL_ERROR, INFO = "error", "internal error", "info"

    class Runtime:
        engine_header_size = 3

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def get_engine_validity(self, header: bytes) -> Any:
            assert len(header) == 3
            kind = validity.INVALID if recorder.invalid else validity.VALID
            return kind, recorder.invalid

        def deserialize_cuda_engine(self, plan: Any) -> Any:
            recorder.calls.append(f"deserialize {bytes(plan).decode()}")
            if not recorder.opens:
                self.logger.log(Logger.ERROR, "out of\nmemory ")
                return None
            return SimpleNamespace(
                num_io_tensors=len(recorder.tensors),
                get_tensor_name=lambda index: list(recorder.tensors)[index],
                get_tensor_dtype=lambda name: recorder.tensors[name][0],
                create_runtime_config=lambda: SimpleNamespace(
                    create_runtime_cache=runtime_cache,
                    set_runtime_cache=lambda cache: recorder.calls.append("set cache"),
                ),
                create_execution_context=lambda *config: FakeContext(recorder),
            )

    def runtime_cache() -> Any:
        return SimpleNamespace(
            deserialize=recorder.caches.append, serialize=lambda: b"compiled for this device"
        )

    trt: Any = ModuleType("tensorrt_rtx")
    trt.__version__ = "1.7"
    trt.ILogger, trt.Runtime, trt.EngineValidity = Logger, Runtime, validity
    trt.EngineInvalidityDiagnostics = enum.IntEnum("EngineInvalidityDiagnostics", bits)
    trt.ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 1, "SM89": 2})
    trt.nptype = lambda name: DTYPES[name]
    return trt  # type: ignore[no-any-return]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """The fakes in the place of the packages."""
    recorder = Recorder()
    cuda: Any = ModuleType("cuda")
    cuda.core = fake_cuda(recorder)
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cuda.core", cuda.core)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt(recorder))
    return recorder


@pytest.fixture
def one_graph(bundle_folder: Path, recorder: Recorder) -> Callable[..., Bundle]:
    """A bundle whose denoiser takes one tensor and gives one or two, of some types."""

    def one_graph(given: str = "float32", taken: str = "float32") -> Bundle:
        shape = ("batch", 4, "latent_frames", "latent_height", "latent_width")
        inputs = (TensorSpec(name="x", dtype=given, shape=shape),)  # type: ignore[arg-type]
        outputs = (TensorSpec(name="y", dtype=taken, shape=shape),)  # type: ignore[arg-type]
        recorder.tensors = {"x": (given, True), "y": (taken, False)}
        graph = GraphSpec(file="denoiser.onnx", precision="fp16", inputs=inputs, outputs=outputs)
        old = Bundle.open(bundle_folder).manifest
        whole = msgspec.structs.replace(
            old, graphs={"denoiser": graph}, files=describe_files(bundle_folder)
        )
        write_manifest(bundle_folder, whole)
        return Bundle.open(bundle_folder)

    return one_graph
