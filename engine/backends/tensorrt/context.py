"""An engine, deserialised on the device and ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import BundleError, MutoscopeError
from ....kernels.device import DeviceArray, Stream
from ...manifest import GraphSpec
from ...session import Tensor, on_stream, room
from ...spec import EngineSpec
from ...store import Engine, EngineStore
from .int8_attention import FLAG, register
from .package import PACKAGES, Log


class Context:
    """One engine's execution context.

    Attributes:
        spec: of the engine.
    """

    def __init__(
        self,
        engine: Engine,
        graph: GraphSpec,
        stream: Stream,
        store: EngineStore,
        weight_budget: int | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Deserialise an engine.

        Args:
            engine: from the store.
            graph: its interface.
            stream: that it works on.
            store: that keeps what is compiled for the device.
            weight_budget: as in `EngineOptions`.
            weights: by the names of the graph's initializers, in place of those that it was built
                with.

        Raises:
            MutoscopeError: TensorRT refuses it; says why.
        """
        self.spec = engine.record.spec
        package = PACKAGES[self.spec.backend]
        trt, self._log = package.load(), Log()
        self._stream, self._store = stream, store
        self._runtime = trt.Runtime(self._log.logger(trt))
        if FLAG in self.spec.flags:
            self._plugin = register(trt, self._runtime.get_plugin_registry(), stream)
        with engine.plan() as plan:
            if package.ahead_of_time:
                _check_validity(trt, self._runtime, plan, self.spec)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failure("cannot open its engine")
        if "weight-streaming" in self.spec.flags:
            self._set_budget(weight_budget)
        if weights:
            self._refit(trt, weights)
        self._dtypes = _interface(trt, self._engine, graph, self.spec)
        self._outputs = [tensor.name for tensor in graph.outputs]
        self._cache: Any = None
        self._native = self._create(trt, with_cache=package.ahead_of_time)

    def run(self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put one run into the stream. What it reads and writes is freed in the stream's order."""
        inputs = {name: on_stream(self._stream, feed) for name, feed in feeds.items()}
        for name, array in inputs.items():
            self._check(self._native.set_input_shape(name, array.shape))
            self._bind(name, array)
        outputs: dict[str, Tensor] = {}
        for name in self._outputs:
            shape = tuple(self._native.get_tensor_shape(name))
            array = room(self._stream, into, name, shape, self._dtypes[name])
            outputs[name] = self._bind(name, array)
        self._check(self._native.execute_async_v3(self._stream.handle))
        return outputs

    def close(self) -> None:
        """Wait for the last run, and keep what was compiled for this device, for the next start."""
        self._stream.synchronize()
        if self._cache is not None:
            self._store.save_cache(self._cache_name, bytes(self._cache.serialize()))

    def _set_budget(self, wanted: int | None) -> None:
        """Say how many bytes of weights stay on the device; all where there is room for all.

        Raises:
            MutoscopeError: TensorRT does not take it.
        """
        if wanted is None:
            budget = self._engine.get_weight_streaming_automatic_budget()
        else:
            budget = min(wanted, self._engine.streamable_weights_size)
        self._engine.weight_streaming_budget_v2 = budget
        if self._engine.weight_streaming_budget_v2 > budget:
            raise self._failure(f"takes no weight budget of {budget >> 20} MB")

    def _refit(self, trt: Any, weights: Mapping[str, NDArray[Any]]) -> None:
        """Change weights of the engine, in the types that it has them in.

        Raises:
            MutoscopeError: TensorRT does not take one.
        """
        refitter = trt.Refitter(self._engine, self._log.logger(trt))
        kept = []  # TensorRT copies nothing before it refits
        for name, weight in weights.items():
            dtype = trt.nptype(refitter.get_weights_prototype(name).dtype)
            kept.append(np.ascontiguousarray(weight, dtype))
            if not refitter.set_named_weights(name, trt.Weights(kept[-1])):
                raise self._failure(f"the engine does not take {name!r} anew")
        if not refitter.refit_cuda_engine():
            raise self._failure("the engine cannot be given other weights")

    @property
    def recordable(self) -> bool:
        """Whether another run like the last one can be recorded; TensorRT-RTX can say no."""
        asked = getattr(self._native, "is_stream_capturable", None)
        return asked is None or bool(asked(self._stream.handle))

    @property
    def _cache_name(self) -> str:
        return f"{self.spec.graph}-{self.spec.key[:16]}-{self._stream.device.arch}.runtime"

    def _create(self, trt: Any, *, with_cache: bool) -> Any:
        if not with_cache:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        kept = self._store.load_cache(self._cache_name)
        if kept is not None:
            self._cache.deserialize(kept)  # one of another driver or device is refused, unread
        config.set_runtime_cache(self._cache)
        # for new shapes kernels are compiled before the first run, not behind later ones: all runs
        # give the same bits, and what is recorded is what stays
        strategies = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return self._engine.create_execution_context(config)

    def _bind(self, name: str, array: DeviceArray) -> DeviceArray:
        self._check(self._native.set_tensor_address(name, array.pointer))
        return array

    def _check(self, done: bool) -> None:
        if not done:
            raise self._failure("the run failed")

    def _failure(self, what: str) -> MutoscopeError:
        return MutoscopeError(f"{self.spec.graph}: {self.spec.backend}: {what}: {self._log.reason}")


def _check_validity(trt: Any, runtime: Any, plan: Any, spec: EngineSpec) -> None:
    """Ask for TensorRT's own verdict from an engine's header.

    Raises:
        MutoscopeError: the engine is of another version or for other devices.
    """
    validity, found = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    if validity != trt.EngineValidity.INVALID:
        return
    causes = trt.EngineInvalidityDiagnostics.__members__.items()
    names = ", ".join(name.lower().replace("_", " ") for name, bit in causes if found & int(bit))
    raise MutoscopeError(
        f"{spec.graph}: {spec.backend} refuses the engine ({names or 'no reason given'}); "
        "remove it with: mutoscope engines prune --all"
    )


def _interface(trt: Any, engine: Any, graph: GraphSpec, spec: EngineSpec) -> dict[str, str]:
    """The element types of an engine's inputs and outputs, equal to what the bundle says."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    got = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name for name in names}
    if got != {tensor.name: tensor.dtype for tensor in (*graph.inputs, *graph.outputs)}:
        raise BundleError(
            f"the engine of {spec.graph} has other inputs or outputs than bundle.json says; "
            "export the bundle again"
        )
    return got
