"""Which engine of the store serves a graph, and how a missing one is made."""

from __future__ import annotations

from collections.abc import Sequence

from ....errors import MutoscopeError, UserError
from ....kernels.device import Device
from ...bundle import Bundle
from ...int8_attention import takes_part
from ...memory import free_memory
from ...profiles import LatentSize, profile
from ...spec import RECIPE, EngineSpec, source_hash, system_name
from ...store import Built, Engine, EngineStore
from .apart import DeadError, build_apart
from .build import REFIT, Report
from .int8_attention import FLAG
from .package import PACKAGES, Package

FLOAT8_SINCE = 89
"""The first compute capability that multiplies in fp8: Ada's."""


def can_build(bundle: Bundle, name: str) -> bool:
    """Whether a graph is not quantized for something else."""
    quantization = bundle.manifest.quantization
    return quantization is None or quantization.backend_of(name) in {None, *PACKAGES}


def describe(
    package: Package,
    bundle: Bundle,
    name: str,
    sizes: Sequence[LatentSize],
    targets: Sequence[str] = (),
    flags: Sequence[str] = (),
    device: Device | None = None,
    *,
    batched: bool = True,
) -> EngineSpec:
    """The engine of a graph for some clips and compute capabilities.

    Without targets it is for the device. An engine that is tuned on a device is for that only.
    `batched`: whether a denoiser takes both predictions of a guided step at once.

    Raises:
        UserError: a compute capability that the package does not build for or that does not
            compute in the graph's precision, a graph that is quantized for another backend, or
            attention in int8 where it is not to be had.
    """
    if not can_build(bundle, name):
        raise UserError(
            f"{bundle.path}: the graph {name!r} is quantized for onnxruntime, which runs it beside "
            "TensorRT if it is the text encoder; other graphs are made for TensorRT with: "
            "mutoscope quantize BUNDLE OUT --backend tensorrt-rtx"
        )
    if FLAG in flags and not package.ahead_of_time:
        raise UserError(f"attention in int8 is for tensorrt-rtx, not for {package.backend}")
    if FLAG in flags and not takes_part(bundle, name):
        flags = [flag for flag in flags if flag != FLAG]
    tuned = device if not package.ahead_of_time else None
    wanted = tuple(targets) or ((device.arch,) if device else ())
    if package.ahead_of_time:
        wanted = package.check_targets(wanted)
    if bundle.graph(name).precision == "fp8":
        _check_float8(bundle, name, wanted)
    return EngineSpec(
        graph=name,
        source=source_hash(bundle, name),
        precision=bundle.graph(name).precision,
        backend=package.backend,
        version=package.version(),
        targets=wanted,
        gpu=tuned.name if tuned else None,
        driver=tuned.driver if tuned else None,
        system=system_name(),
        profile=profile(bundle.manifest, name, sizes, batched=batched),
        flags=tuple(sorted(flags)),
    )


def _check_float8(bundle: Bundle, name: str, targets: Sequence[str]) -> None:
    """Refuse targets that do not compute in fp8.

    Raises:
        UserError: names them, and says what to do.
    """
    old = [t for t in targets if int(t.removeprefix("sm_")) < FLOAT8_SINCE]
    if old:
        raise UserError(
            f"{bundle.path}: the graph {name!r} is in fp8, which GPUs compute from "
            f"sm_{FLOAT8_SINCE} on, {' and '.join(old)} not; make a bundle for it with: "
            "mutoscope quantize BUNDLE OUT --backend tensorrt-rtx --precision int8"
        )


def build_engine(
    store: EngineStore, bundle: Bundle, spec: EngineSpec, threads: int | None, report: Report
) -> Engine:
    """The engine of that description, from the store or built.

    Raises:
        MutoscopeError: it cannot be built, or the process that built it was ended.
    """
    graph = bundle.graph(spec.graph)

    def build_it() -> Built:
        try:
            return build_apart(spec, graph, bundle.file(graph.file), threads, report, store)
        except DeadError as death:
            raise MutoscopeError(
                f"{spec.graph}: its build was {death}{_memory(bundle, spec.graph)}"
            ) from None

    return store.get(spec, bundle.manifest.name, build_it)


def _memory(bundle: Bundle, name: str) -> str:
    """What a build takes beside what there is, where both are known, and what to do."""
    from ...planner import build_memory, weights_of

    free = free_memory()
    try:
        wanted = build_memory(weights_of(bundle, name))
    except MutoscopeError:
        return ""
    if free is None:
        return ""
    return (
        f"; it takes roughly {wanted >> 20} MB of memory, {free >> 20} MB can be had: where that "
        "is why, build on a larger machine"
    )


def serves(spec: EngineSpec, wanted: EngineSpec, axes: dict[str, int]) -> bool:
    """Whether an engine does for what is wanted: any profile and targets that cover it.

    Engines without their weights do not: nothing fills them in. Attention is exact, or it is not.
    Weights that LoRAs change must be changeable.
    """
    same = ("graph", "source", "backend", "version", "gpu", "driver", "system")
    return (
        all(getattr(spec, field) == getattr(wanted, field) for field in same)
        and spec.recipe == RECIPE
        and {*wanted.targets} <= {*spec.targets}
        and "strip-weights" not in spec.flags
        and (FLAG in spec.flags) == (FLAG in wanted.flags)
        and (REFIT in spec.flags or REFIT not in wanted.flags)
        and spec.covers(axes)
    )
