"""The weights of a graph with LoRAs added: W + scale · alpha / rank · B · A, summed in fp32."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError, UserError, unknown
from ..bundle import Bundle
from ..initializers import InitializerName
from ..manifest import WHOLE, GraphSpec
from ..onnx_file import OnnxFile
from .file import StoredTensor
from .lora import Lora
from .targets import Targets

ITEM = 4
"""Bytes of a number as it is added; a graph in fp16 takes half of that from then on."""
COPIES = 4
"""Of a LoRA's file: as it was read, its tensors, and these in fp32."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """What one LoRA adds to one parameter: a full difference, or a product of two matrices.

    Attributes:
        lora: whose it is.
        parameter: the checkpoint's name of what it changes.
        factors: one tensor of the parameter's shape, or `up` (out, rank) and `down` (rank, in).
        scale: what it is multiplied by.
    """

    lora: Lora
    parameter: str
    factors: tuple[StoredTensor, ...]
    scale: float

    def check(self, shape: tuple[int, ...]) -> None:
        """Compare with the parameter's shape.

        Raises:
            UserError: it is of another model.
        """
        wanted = [shape]
        if len(self.factors) == 2:
            rank = self.factors[1].shape[0]
            wanted = [(*shape[:1], rank, *[1] * len(shape[2:])), (rank, *shape[1:])]
        for factor, fitting in zip(self.factors, wanted, strict=True):
            if factor.shape != fitting:
                raise UserError(
                    f"{self.lora.file.path} is for another model: {factor.key!r} has the shape "
                    f"{list(factor.shape)}, here it would have to be {list(fitting)}"
                )

    def values(self, shape: tuple[int, ...]) -> Array:
        """The difference that it makes, in the parameter's shape."""
        scaled = self.factors[0].values() * np.float32(self.scale)
        if len(self.factors) == 1:
            return scaled
        down = self.factors[1].values()
        rank = len(down)
        product: Array = np.matmul(scaled.reshape(-1, rank), down.reshape(rank, -1))
        return product.reshape(shape)


@dataclass(frozen=True)
class Merged:
    """A graph that takes some of its initializers from outside.

    Attributes:
        model: the ONNX file's new content.
        weights: the values of those initializers, by name.
    """

    model: bytes
    weights: dict[str, NDArray[Any]]


def check_loras(bundle: Bundle, loras: Sequence[Lora]) -> None:
    """See that LoRAs fit a bundle, before any work.

    Raises:
        UserError: the bundle takes none, lacks a denoiser that is named, or one is for another
            model.
    """
    graphs = [name for name, graph in bundle.manifest.graphs.items() if graph.lora is not None]
    if loras and not graphs:
        raise UserError(
            f"{bundle.path} does not say how LoRAs change its weights; "
            "export it again with this version"
        )
    for lora in loras:
        if lora.denoiser not in {None, *graphs}:
            raise UserError(f"{lora.file.path}: {unknown('denoiser', str(lora.denoiser), graphs)}")
    for name in graphs:
        _changes(OnnxFile(bundle, name), bundle.graph(name), changing(name, loras))


def changing(graph: str, loras: Sequence[Lora]) -> tuple[Lora, ...]:
    """Those of some LoRAs that change a denoiser."""
    return tuple(lora for lora in loras if lora.denoiser in {None, graph})


def merge(bundle: Bundle, graph: str, loras: Sequence[Lora]) -> Merged:
    """Add LoRAs to the weights of a graph; those that none changes stay in their files.

    A weight has the precision that the graph computes in, not the one it is stored in.

    Raises:
        UserError: a LoRA is for another model, or too strong for fp16.
        BundleError: the graph's file is damaged.
    """
    file = OnnxFile(bundle, graph)
    spec, denoiser = bundle.graph(graph), bundle.manifest.denoiser
    rotary = spec.lora.rotary if spec.lora else ()
    stored = _initializers(file)
    weights = {}
    for parameter, changes in _changes(file, spec, changing(graph, loras)).items():
        delta = _sum(changes, stored[parameter].shape)
        if parameter.rpartition(".")[0].endswith(rotary):
            delta = rotary_halves(delta, denoiser.hidden_size // denoiser.heads)
        for name in stored[parameter].names:
            weights[name] = _added(file, name, delta)
            if not np.isfinite(weights[name]).all():
                raise UserError(_too_strong(parameter, changes))
            file.replace(name, weights[name].dtype)
    return Merged(file.serialize(), weights)


def memory(bundle: Bundle, graph: str, loras: Sequence[Lora]) -> int:
    """Bytes that LoRAs take in a process as a graph is opened: what they change, and their files.

    Raises:
        UserError: one is for another model.
    """
    file, chosen = OnnxFile(bundle, graph), changing(graph, loras)
    stored = _initializers(file)
    changed = _changes(file, bundle.graph(graph), chosen)
    elements = sum(math.prod(stored[name].shape) for name in changed)
    read = sum(len(t.data) for lora in chosen for t in lora.file.tensors.values())
    return ITEM * elements + COPIES * read


def rotary_halves(delta: Array, head_dim: int) -> Array:
    """Permute rows as export permutes those of rotary queries and keys: even ones first.

    Raises:
        BundleError: they are no whole heads.
    """
    if head_dim < 1 or len(delta) % head_dim:
        raise BundleError(
            f"bundle.json tells of heads of {head_dim} channels, which do not divide {len(delta)}; "
            "export the bundle again"
        )
    order = np.r_[0:head_dim:2, 1:head_dim:2]
    return delta.reshape(-1, head_dim, *delta.shape[1:])[:, order].reshape(delta.shape)


@dataclass
class _Stored:
    """A parameter of the checkpoint: its shape there, and the initializers that hold it."""

    shape: tuple[int, ...]
    names: list[str]


def _initializers(file: OnnxFile) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for name, shape in file.shapes.items():
        said = InitializerName.parse(name)
        if said is not None:
            plain = shape[::-1] if said.transposed else shape
            found.setdefault(said.parameter, _Stored(plain, [])).names.append(name)
    return found


def _changes(file: OnnxFile, graph: GraphSpec, loras: Sequence[Lora]) -> dict[str, list[Change]]:
    """What changes, by the checkpoint's names; all of it fits."""
    if loras and graph.precision not in WHOLE:
        raise UserError(
            f"{file.path} is {graph.precision}: LoRAs can be added to {' and '.join(WHOLE)}; "
            "quantize a checkpoint that has them in its weights"
        )
    stored = _initializers(file)
    found: dict[str, list[Change]] = {}
    if graph.lora is None:
        return found
    targets = Targets(stored, graph.lora.aliases)
    for lora in loras:
        for change in _changes_of(lora, targets):
            change.check(stored[change.parameter].shape)
            found.setdefault(change.parameter, []).append(change)
    return found


def _changes_of(lora: Lora, targets: Targets) -> Iterator[Change]:
    _check_names(lora, targets)
    for name, layer in lora.layers.items():
        weight, bias, parts = targets.weight(name), targets.bias(name), layer.parts
        strength = lora.scale * layer.strength
        if weight and "up" in parts:
            yield Change(lora, weight, (parts["up"], parts["down"]), strength)
        if weight and "diff" in parts:
            yield Change(lora, weight, (parts["diff"],), lora.scale)
        if bias and "up_bias" in parts:
            yield Change(lora, bias, (parts["up_bias"],), strength)
        if bias and "diff_b" in parts:
            yield Change(lora, bias, (parts["diff_b"],), lora.scale)


def _check_names(lora: Lora, targets: Targets) -> None:
    """Refuse layers that the graph lacks, naming the first."""
    lacking = [
        name
        for name, layer in lora.layers.items()
        if (layer.changes_weight and not targets.weight(name))
        or (layer.changes_bias and not targets.bias(name))
    ]
    if lacking:
        near = targets.nearest(lacking[0])
        raise UserError(
            f"{lora.file.path} changes {lacking[0]!r}, which this model lacks"
            + (f" (nearest: {near!r})" if near and near != lacking[0] else "")
            + (f", and {len(lacking) - 1} more" if len(lacking) > 1 else "")
            + "; it is a LoRA for another model"
        )


def _sum(changes: Sequence[Change], shape: tuple[int, ...]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return functools.reduce(np.add, (change.values(shape) for change in changes))


def _added(file: OnnxFile, name: str, delta: Array) -> NDArray[np.floating]:
    """The new values of an initializer; those that are too large for its type are infinite."""
    said = InitializerName.parse(name)
    assert said is not None
    weight = file.read(name) + (delta.T if said.transposed else delta)
    dtype = np.float16 if file.is_float16(name) and not said.half else np.float32
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(weight, dtype)


def _too_strong(parameter: str, changes: Sequence[Change]) -> str:
    named = ", ".join(f"{c.lora.file.path} ({c.lora.scale:g})" for c in changes)
    return f"{named}: {parameter!r} becomes too large a number; scale it down"
