"""From a graph to an engine: parse, set shapes and targets, compile."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....errors import BundleError, MutoscopeError, UserError
from ...manifest import GraphSpec
from ...memory import peak_memory_mb
from ...session import axis_length
from ...spec import EngineSpec
from ...store import Built, EngineStore
from .graph import parsable
from .int8_attention import FLAG, register
from .package import PACKAGES, Log
from .parser_library import find_library
from .timings import Timings

Report = Callable[[str, int, int], None]
"""Told the phase that TensorRT is in, how many of its outermost steps are done, and of how many."""

REFIT = "refit"
"""What an engine is built with whose weights can be changed: LoRAs need it."""

FLAGS = {
    REFIT: "REFIT",
    "strip-weights": "STRIP_PLAN",
    "weight-streaming": "WEIGHT_STREAMING",
}
"""Builder flags, as the user says and as TensorRT does."""

NEED_GPU = {REFIT, "strip-weights"}
"""TensorRT-RTX 1.7 compiles these with the CUDA driver."""

PRECISIONS = {"half": "fp16", "float": "fp32", "bfloat16": "bf16"}
OUTPUT = re.compile(r"Outputs: \[ \{.*?Datatype: (\w+)")
SHORT_OF_MEMORY = ("bad_alloc", "OutOfMemory", "out of memory", "CHECK(p) failed")
"""What TensorRT says where memory does not suffice."""
MEMORY = re.compile(r"Total (Weights|Activation) Memory: (\d+) bytes")


def build(
    spec: EngineSpec,
    graph: GraphSpec,
    path: Path,
    threads: int | None,
    report: Report,
    store: EngineStore,
) -> Built:
    """Build one engine, here and now: `apart.build_apart` does so in a process of its own.

    Args:
        spec: of the engine.
        graph: its interface.
        path: of the ONNX graph; its weights lie beside it.
        threads: CPU threads for the build; `None` leaves it to TensorRT.
        report: told of the progress, from TensorRT's threads.
        store: that keeps what is timed on the GPU.

    Raises:
        BundleError: TensorRT cannot read the graph.
        MutoscopeError: TensorRT cannot build it; `UserError` where a flag may be why.
    """
    package, int8_attention = PACKAGES[spec.backend], FLAG in spec.flags
    if int8_attention:
        find_library()
    trt, log = package.load(), Log()
    logger = log.logger(trt)
    builder = trt.Builder(logger)
    if threads is not None:
        builder.max_threads = threads
    plugin = register(trt, builder.get_plugin_registry()) if int8_attention else None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    model = parsable(path, graph, package.extra, int8_attention=int8_attention)
    if not parser.parse(model, str(path)):
        raise BundleError(f"{path}: {spec.backend} cannot read the graph: {log.reason}")
    allow_parts(trt, network)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(_profile(builder, graph, spec))
    for flag in spec.flags:
        if flag in FLAGS:
            config.set_flag(getattr(trt.BuilderFlag, FLAGS[flag]))
    if plugin:
        config.max_aux_streams = 0  # the plugin runs on the session's stream alone
    timings = None if package.ahead_of_time else Timings(store, spec)
    if timings:
        timings.lend(config)
    else:
        _set_targets(trt, config, spec.targets)
    plan = _compile(trt, builder, network, config, report)
    if plan is None:
        raise _failure(spec, log.reason)
    if timings:
        timings.keep(config)
    memory = {kind: int(size) / 1e6 for kind, size in MEMORY.findall("\n".join(log.messages))}
    return Built(
        plan=memoryview(plan),
        listing=log.listing,
        layers=layers(log.listing),
        weights_mb=memory.get("Weights", 0.0),
        activations_mb=memory.get("Activation", 0.0),
        peak_memory_mb=round(peak_memory_mb(), 1),
    )


def allow_parts(trt: Any, network: Any) -> None:
    """Let attention that no fused kernel is for (fp32, large heads) run as its parts.

    The parser's own choice is to fail then.
    """
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # what TensorRT's bindings want for a cast
            layer.attention.decomposable = True


def layers(listing: str) -> dict[str, int]:
    """How many layers an inspector's listing has, by the precision of their first output."""
    kinds = (OUTPUT.search(line) for line in listing.splitlines() if line.startswith("Name: "))
    names = (kind[1].lower() if kind else "none" for kind in kinds)
    return dict(sorted(Counter(PRECISIONS.get(name, name) for name in names).items()))


def out_of_memory(spec: EngineSpec, reason: str) -> MutoscopeError:
    """What to raise where memory did not suffice, and the build could say so."""
    return MutoscopeError(
        f"{spec.graph}: out of memory: {spec.backend} needs more to build it than this machine "
        f"gives; build it on a larger one ({reason})"
    )


def _failure(spec: EngineSpec, reason: str) -> MutoscopeError:
    if any(words in reason for words in SHORT_OF_MEMORY):
        return out_of_memory(spec, reason)
    without_gpu = [flag for flag in spec.flags if flag in NEED_GPU]
    if without_gpu:
        return UserError(
            f"{spec.graph}: {spec.backend} could not build it with --{' --'.join(without_gpu)}, "
            f"which takes a GPU in the machine that builds: {reason}"
        )
    return MutoscopeError(f"{spec.graph}: {spec.backend} could not build it: {reason}")


def _profile(builder: Any, graph: GraphSpec, spec: EngineSpec) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in graph.inputs:
        bounds = ({axis: lengths[i] for axis, lengths in spec.profile.items()} for i in range(3))
        shapes = [[axis_length(axis, axes) for axis in tensor.shape] for axes in bounds]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = trt.ComputeCapability.__members__[target.replace("_", "").upper()]
        config.set_compute_capability(capability, index)


def _compile(trt: Any, builder: Any, network: Any, config: Any, report: Report) -> Any:
    monitor = _monitor(trt, report)
    config.progress_monitor = monitor
    return builder.build_serialized_network(network, config)


def _monitor(trt: Any, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost, self.done, self.steps = "", 0, 0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.outermost, self.done, self.steps = phase, 0, steps
            report(phase, self.done, self.steps)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == self.outermost:
                self.done = step + 1
                report(phase, self.done, self.steps)
            return True

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
