"""A fake of TensorRT's API, as far as a session uses it, that records its calls.

A CPU stands in for the device, so that addresses are the host's. A fake engine runs a model: one
that doubles its input, or ONNX Runtime on the bundle's graph.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

import msgspec
import numpy as np
import pytest
from cpu_device import CpuArray, CpuStream
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends import tensorrt
from mutoscope.engine.backends.onnxruntime import open_denoiser
from mutoscope.engine.bundle import describe_files
from mutoscope.engine.lora import Merged
from mutoscope.engine.manifest import GraphSpec, TensorSpec, write_manifest
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.session import axis_length, check_feeds

DTYPES = {"float32": np.float32, "float16": np.float16, "int64": np.int64}
Shapes = Mapping[str, tuple[int, ...]]


class Model(Protocol):
    """What an engine computes; `tensors`: of each name the type, and whether it is an input."""

    tensors: dict[str, tuple[str, bool]]

    def shape(self, name: str, given: Shapes) -> tuple[int, ...]: ...

    def run(self, feeds: dict[str, Any]) -> Mapping[str, Any]: ...


class Doubling:
    """Its one output is the double of its one input."""

    def __init__(self, given: str = "float32", taken: str = "float32") -> None:
        self.tensors = {"x": (given, True), "y": (taken, False)}

    def shape(self, name: str, given: Shapes) -> tuple[int, ...]:
        return given["x"]

    def run(self, feeds: dict[str, Any]) -> Mapping[str, Any]:
        return {"y": 2 * feeds["x"]}


class Onnx:
    """A graph of a bundle, run by ONNX Runtime."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle, self.name = bundle, name
        self.file = OnnxFile(bundle, name)
        self.session = open_graph(bundle, name)
        self.tensors = {n: (spec.dtype, True) for n, spec in self.session.inputs.items()}
        self.tensors |= {n: (spec.dtype, False) for n, spec in self.session.outputs.items()}

    def shape(self, name: str, given: Shapes) -> tuple[int, ...]:
        feeds: Any = {
            n: SimpleNamespace(shape=given[n], dtype=spec.dtype)
            for n, spec in self.session.inputs.items()
        }
        axes = check_feeds(name, self.session.inputs, feeds)
        return tuple(axis_length(axis, axes) for axis in self.session.outputs[name].shape)

    def run(self, feeds: dict[str, Any]) -> Mapping[str, Any]:
        return self.session.run(feeds)

    def weight(self, name: str) -> str:
        """The type that a weight is stored in."""
        return "float16" if self.file.is_float16(name) else "float32"

    def refit(self, weights: dict[str, Any]) -> None:
        path = self.bundle.file(self.bundle.graph(self.name).file)
        content = Merged(path.read_bytes(), weights)
        self.session = open_denoiser(self.bundle, self.name, EngineOptions(), content)


@dataclass
class Recorder:
    """What was called, in order, and what the fakes are to answer."""

    stream: CpuStream
    calls: list[str]
    model: Callable[[str], Model] = field(default=lambda plan: Doubling())
    contexts: list[Any] = field(default_factory=list)
    invalid: int = 0
    opens: bool = True
    runs: bool = True
    records: bool = True
    caches: list[bytes] = field(default_factory=list)
    takes_budget: bool = True
    takes_weights: bool = True


class FakeEngine(SimpleNamespace):
    """Its weights can be streamed, 1,000 bytes of them; 600 is what TensorRT would keep.

    As in TensorRT, nothing is streamed before a budget is set.
    """

    streamable_weights_size = 1000
    budget = 1000

    def __init__(self, recorder: Recorder, **others: Any) -> None:
        super().__init__(**others)
        self.recorder = recorder

    def get_weight_streaming_automatic_budget(self) -> int:
        return 600

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self.budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        self.recorder.calls.append(f"budget {budget}")
        if self.recorder.takes_budget:
            self.budget = budget


class FakeContext:
    def __init__(self, recorder: Recorder, model: Model) -> None:
        self.recorder, self.model = recorder, model
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        recorder.contexts.append(self)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.recorder.calls.append(f"shape {name} {list(shape)}")
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.model.shape(name, self.shapes)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.recorder.calls.append(f"bind {name}")
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.recorder.calls.append(f"execute on {stream}")
        shapes = {
            name: self.get_tensor_shape(name) for name in self.addresses if name not in self.shapes
        }
        shapes |= self.shapes
        arrays = {
            name: CpuArray(np.empty(0), address, shapes[name], self.model.tensors[name][0]).values()
            for name, address in self.addresses.items()
        }

        def execute() -> None:
            results = self.model.run({name: arrays[name] for name in self.shapes})
            for name, values in results.items():
                arrays[name][...] = values

        self.recorder.stream.do(execute)
        return self.recorder.runs

    def is_stream_capturable(self, stream: int) -> bool:
        return self.recorder.records


def fake_refitter(recorder: Recorder) -> type:
    class Refitter:
        def __init__(self, engine: FakeEngine, logger: Any) -> None:
            self.model, self.weights = engine.model, dict[str, Any]()

        def get_weights_prototype(self, name: str) -> Any:
            return SimpleNamespace(dtype=self.model.weight(name))

        def set_named_weights(self, name: str, weights: Any) -> bool:
            assert weights.dtype == self.model.weight(name)
            self.weights[name] = weights
            return recorder.takes_weights

        def refit_cuda_engine(self) -> bool:
            recorder.calls.append(f"refit {len(self.weights)}")
            self.model.refit(self.weights)
            return True

    return Refitter


def fake_tensorrt(recorder: Recorder) -> ModuleType:
    validity = enum.IntEnum("EngineValidity", {"VALID": 0, "SUBOPTIMAL": 1, "INVALID": 2})
    bits = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}

    class Logger:
        ERROR, INTERNAL_ERROR, INFO = "error", "internal error", "info"

    class Runtime:
        engine_header_size = 3

        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def get_plugin_registry(self) -> Any:
            return Registry()

        def get_engine_validity(self, header: bytes) -> Any:
            assert len(header) == 3
            kind = validity.INVALID if recorder.invalid else validity.VALID
            return kind, recorder.invalid

        def deserialize_cuda_engine(self, plan: Any) -> Any:
            recorder.calls.append(f"deserialize {bytes(plan).decode()}")
            if not recorder.opens:
                self.logger.log(Logger.ERROR, "out of\nmemory ")
                return None
            model = copy(recorder.model(bytes(plan).decode()))
            return FakeEngine(
                recorder,
                model=model,
                num_io_tensors=len(model.tensors),
                get_tensor_name=lambda index: list(model.tensors)[index],
                get_tensor_dtype=lambda name: model.tensors[name][0],
                create_runtime_config=lambda: SimpleNamespace(
                    create_runtime_cache=runtime_cache,
                    set_runtime_cache=lambda cache: recorder.calls.append("set cache"),
                ),
                create_execution_context=lambda *config: FakeContext(recorder, model),
            )

    def runtime_cache() -> Any:
        return SimpleNamespace(
            deserialize=recorder.caches.append, serialize=lambda: b"compiled for this device"
        )

    class Registry:
        def register_creator(self, creator: Any, namespace: str) -> bool:
            recorder.calls.append(f"register {namespace} {creator.name} {creator.plugin_version}")
            return True

    trt: Any = ModuleType("tensorrt_rtx")
    trt.Refitter, trt.Weights = fake_refitter(recorder), lambda array: array
    for name in ("CreatorV3One", "V3", "V3OneCore", "V3OneBuild", "V3OneRuntime"):
        setattr(trt, f"IPlugin{name}", type(name, (), {}))
    trt.PluginField, trt.PluginFieldCollection = (lambda *field: field), list
    trt.PluginFieldType = SimpleNamespace(FLOAT32=1)
    trt.__version__ = "1.7"
    trt.ILogger, trt.Runtime, trt.EngineValidity = Logger, Runtime, validity
    trt.EngineInvalidityDiagnostics = enum.IntEnum("EngineInvalidityDiagnostics", bits)
    trt.ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "SM86": 1, "SM89": 2})
    strategies = {"LAZY": 0, "EAGER": 1, "NONE": 2}
    trt.DynamicShapesKernelSpecializationStrategy = enum.IntEnum("Strategy", strategies)
    trt.nptype = lambda name: DTYPES[name]
    return trt  # type: ignore[no-any-return]


@pytest.fixture
def recorder(cpu_stream: CpuStream, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The fakes in the place of the package and of the GPU."""
    recorder = Recorder(cpu_stream, cpu_stream.calls)
    recorder.calls.clear()
    monkeypatch.setattr(tensorrt, "open_device", lambda: cpu_stream.device)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt(recorder))
    return recorder


@pytest.fixture
def one_graph(bundle_folder: Path, recorder: Recorder) -> Callable[..., Bundle]:
    """A bundle whose denoiser takes one tensor and gives one or two, of some types."""

    def one_graph(given: str = "float32", taken: str = "float32") -> Bundle:
        shape = ("batch", 4, "latent_frames", "latent_height", "latent_width")
        inputs = (TensorSpec(name="x", dtype=given, shape=shape),)  # type: ignore[arg-type]
        outputs = (TensorSpec(name="y", dtype=taken, shape=shape),)  # type: ignore[arg-type]
        recorder.model = lambda plan: Doubling(given, taken)
        graph = GraphSpec(file="denoiser.onnx", precision="fp16", inputs=inputs, outputs=outputs)
        old = Bundle.open(bundle_folder).manifest
        whole = msgspec.structs.replace(
            old, graphs={"denoiser": graph}, files=describe_files(bundle_folder)
        )
        write_manifest(bundle_folder, whole)
        return Bundle.open(bundle_folder)

    return one_graph


@pytest.fixture
def onnx_model() -> Callable[[Bundle, str], Model]:
    """A model that runs a graph of a bundle."""
    return Onnx
