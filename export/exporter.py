"""Checkpoint → bundle: the whole way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..engine.bundle import describe_files
from ..engine.folders import whole_folder
from ..engine.manifest import (
    DENOISERS,
    Defaults,
    GraphSpec,
    Manifest,
    Precision,
    PresetSpec,
    SchedulerSpec,
    Source,
    write_manifest,
)
from ..engine.target import check_target
from ..errors import MissingExtraError, UserError, unknown
from . import families
from .checkpoint import Checkpoint
from .defaults import change_defaults, check_defaults
from .facts import Facts
from .graph import Graph
from .hub import HubModel, fetch
from .presets import check_fit, check_loras, copy_loras, read_presets
from .quiet import quiet
from .scheduler import scheduler
from .tokenizer import write_tokenizer
from .verify import verify

if TYPE_CHECKING:
    from .weights import WeightFile

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
CACHED = re.compile(r"models--(?P<name>.+)/snapshots/(?P<revision>[0-9a-f]+)")
NEEDED = ("torch", "diffusers", "accelerate", "transformers", "safetensors", "onnxscript")
TOOLS = ("mutoscope", "torch", "diffusers", "transformers", "onnxscript")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        precision: of the graphs; what has to stay fp32 in fp16 does.
        graphs: names of the graphs to export; none means all. Denoisers are always there.
        defaults: `KEY=VALUE` changes of the default request.
        loras: files that go along, to be asked for by their names.
        presets: ways to make clips, as `fast:lora=NAME,steps=4,guidance_scale=1`; the first is what
            a request gets that does not say.
        max_sequence_length: tokens that every prompt is padded or cut to; none is the family's own.
        name: of the bundle; the target folder's by default.
        license: of the weights, as an SPDX expression.
        verify: compare every graph, and a clip, with PyTorch.
        overwrite: replace a bundle that is there.
    """

    precision: Precision = "fp32"
    graphs: Sequence[str] = ()
    defaults: Sequence[str] = ()
    loras: Sequence[Path] = ()
    presets: Sequence[str] = ()
    max_sequence_length: int | None = None
    name: str | None = None
    license: str | None = None
    verify: bool = False
    overwrite: bool = False


@dataclass
class Plan:
    """What will be exported: everything that can be found wrong has been looked at."""

    name: str
    checkpoint: Checkpoint
    family: families.Family
    graphs: tuple[Graph, ...]
    facts: Facts
    scheduler: SchedulerSpec
    defaults: Defaults
    loras: dict[str, Path]
    presets: dict[str, PresetSpec]


def export_bundle(
    checkpoint: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    options: Options | None = None,
    report: Report = lambda line: None,
) -> Manifest:
    """Export a checkpoint in diffusers' format to a bundle.

    Args:
        checkpoint: the folder with `model_index.json`; or, as a `str`, the id of a model on the
            Hugging Face Hub, `org/name` or `org/name@revision`. A folder that is there comes first.
        bundle: the folder to write. It is there when it is whole, or not at all.
        options: see `Options`.
        report: is told what goes on, a line at a time.

    Raises:
        CheckpointError: the checkpoint is damaged, of a kind that cannot be exported, or not to be
            had from the Hub.
        UserError: the target or an option does not do.
        MissingExtraError: PyTorch, or another package of the export extra, is not installed.
        VerifyError: `--verify` found a difference above its bound.
    """
    _need_extra()
    options = options or Options()
    target = Path(bundle)
    check_target(target, overwrite=options.overwrite)
    folder = find_folder(checkpoint, report)
    with quiet():
        plan = make_plan(Checkpoint.open(folder), target, options)
        with whole_folder(target) as partial:
            return write_bundle(plan, partial, options, report)


def find_folder(checkpoint: str | os.PathLike[str], report: Report) -> str | os.PathLike[str]:
    """The folder of a checkpoint: the one that is named, or the snapshot of a model on the Hub."""
    if isinstance(checkpoint, str) and not os.path.lexists(checkpoint):
        model = HubModel.parse(checkpoint)
        if model is not None:
            return fetch(model, report)
    return checkpoint


def write_bundle(plan: Plan, folder: Path, options: Options, report: Report) -> Manifest:
    """Write everything into a folder, the manifest last: without it nothing opens the bundle."""
    write_graphs(plan.graphs, folder, report)
    write_tokenizer(plan.checkpoint, folder)
    copy_loras(list(plan.loras.values()), folder)
    report("fitting the latent preview")
    manifest = describe(plan, folder, options)
    if plan.loras:
        check_fit(folder, manifest, plan.loras)
    if options.verify:
        report("comparing with PyTorch")
        checks = verify(folder, manifest, plan.family.reference(plan.checkpoint))
        manifest = msgspec.structs.replace(manifest, checks=checks)
    write_manifest(folder, manifest)
    return manifest


def _need_extra() -> None:
    for package in NEEDED:
        if find_spec(package) is None:
            raise MissingExtraError(package, "export")


def make_plan(checkpoint: Checkpoint, target: Path, options: Options) -> Plan:
    """Check the checkpoint and the options, before any work."""
    from .weights import check_weights

    family = families.find(checkpoint)
    family.check(checkpoint)
    facts = _shortened(family.facts(checkpoint), options.max_sequence_length)
    defaults = change_defaults(family.defaults(checkpoint), options.defaults)
    check_defaults(defaults, facts)
    loras = check_loras(options.loras)
    graphs = _choose(family.graphs(checkpoint, options.precision), options.graphs)
    for graph in {graph.data: graph for graph in graphs}.values():
        check_weights(graph)
    return Plan(
        name=options.name or target.name,
        checkpoint=checkpoint,
        family=family,
        graphs=graphs,
        facts=facts,
        scheduler=scheduler(checkpoint),
        defaults=defaults,
        loras=loras,
        presets=read_presets(options.presets, list(loras)),
    )


def _shortened(facts: Facts, tokens: int | None) -> Facts:
    if tokens is None:
        return facts
    if not 1 <= tokens <= facts.text.max_tokens:
        raise UserError(
            f"a prompt of {tokens} tokens is not one of 1 to {facts.text.max_tokens}, "
            "which this family takes"
        )
    return replace(facts, text=msgspec.structs.replace(facts.text, max_tokens=tokens))


def _choose(graphs: Sequence[Graph], names: Sequence[str]) -> tuple[Graph, ...]:
    known = [graph.name for graph in graphs]
    for name in names:
        if name not in known:
            raise UserError(unknown("graph", name, known))
    wanted = {*names, *DENOISERS} if names else set(known)
    return tuple(graph for graph in graphs if graph.name in wanted)


def write_graphs(graphs: Sequence[Graph], folder: Path, report: Report) -> None:
    """Trace and write the graphs; those that share a file of weights come together."""
    from .weights import WeightFile

    with ExitStack() as stack:
        files: dict[str, WeightFile] = {}
        for graph in graphs:
            report(f"exporting {graph.name}")
            if graph.data not in files:
                files[graph.data] = stack.enter_context(WeightFile(folder / graph.data))
            write_graph(graph, files[graph.data], folder)


def write_graph(graph: Graph, weights: WeightFile, folder: Path) -> None:
    """Trace one graph, give it its weights, tidy it and write it."""
    import onnx_ir as ir

    from .passes import tidy
    from .trace import trace
    from .weights import attach

    model = trace(graph)
    attach(model, graph)
    tidy(model, graph)
    weights.store(model)
    proto = ir.to_proto(model)
    proto.graph.ClearField("value_info")  # ORT's quantiser takes traced shapes for wrong ones
    (folder / graph.file).write_bytes(proto.SerializeToString())


def describe(plan: Plan, folder: Path, options: Options) -> Manifest:
    """The manifest of a folder that holds everything else."""
    preview = plan.family.preview(plan.checkpoint)
    return Manifest(
        family=plan.family.name,
        name=plan.name,
        source=source(plan.checkpoint, options.license),
        made_with={tool: version(tool) for tool in TOOLS},
        graphs={graph.name: _graph_spec(graph) for graph in plan.graphs},
        files=describe_files(folder),
        text=plan.facts.text,
        scheduler=plan.scheduler,
        denoiser=plan.facts.denoiser,
        latents=msgspec.structs.replace(plan.facts.latents, preview=preview),
        defaults=plan.defaults,
        limits=plan.facts.limits,
        presets=plan.presets,
    )


def source(checkpoint: Checkpoint, license_name: str | None) -> Source:
    """Where a checkpoint is from: its folder's name, or what the Hugging Face cache says of it."""
    path = checkpoint.path.absolute()
    cached = CACHED.fullmatch("/".join(path.parts[-3:]))
    if cached is None:
        return Source(name=path.name, license=license_name)
    name = cached["name"].replace("--", "/")
    return Source(name=name, revision=cached["revision"], license=license_name)


def _graph_spec(graph: Graph) -> GraphSpec:
    return GraphSpec(
        file=graph.file,
        data=(graph.data,),
        precision=graph.precision,
        inputs=graph.inputs,
        outputs=graph.outputs,
        lora=graph.lora,
    )
