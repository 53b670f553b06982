"""Which products bear which format: tried on the model itself, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ..engine import EngineOptions, Session
from ..engine.backends.onnxruntime import open_changed
from ..engine.bundle import Bundle
from ..engine.lora import Merged
from ..engine.onnx_file import OnnxFile
from ..engine.weight_formats import BYTES
from .deviation import Deviation
from .formats import FLOAT, FLOAT8, FORMATS, Input
from .graph import Linear, Rewriting
from .tensors import Memory, Store
from .trajectory import Call

Choice = Mapping[str, str]
"""The format of each kind of product; those that are not named stay as they are."""


@dataclass(frozen=True)
class Subject:
    """A denoiser to be quantized, and what it is tried on.

    Attributes:
        bundle: where it is.
        graph: its name.
        linears: its products.
        inputs: what is known of the products' inputs, by their names.
        calls: runs of it, with what it said.
        threads: CPU threads.
    """

    bundle: Bundle
    graph: str
    linears: tuple[Linear, ...]
    inputs: Mapping[str, Input]
    calls: Sequence[Call]
    threads: int | None

    def write(self, choice: Choice, store: Store) -> bytes:
        """The graph's file with products in other formats; new tensors go to the store."""
        rewriting = Rewriting(OnnxFile(self.bundle, self.graph), store)
        for linear in self.linears:
            form = choice.get(linear.kind, FLOAT)
            if form != FLOAT:
                FORMATS[form](rewriting, linear, self.inputs.get(linear.source))
        return rewriting.finish()

    def open(self, choice: Choice) -> Session:
        """The graph with products in other formats, to be run; nothing is written."""
        memory = Memory()
        content = Merged(self.write(choice, memory), memory.values)
        options, interface = EngineOptions(self.threads), self.bundle.graph(self.graph)
        if FLOAT8 in choice.values():
            interface = msgspec.structs.replace(interface, precision="fp8")
        return open_changed(self.bundle, self.graph, options, interface, content)

    def error(self, choice: Choice) -> float:
        """The relative error of all predictions together, were products in other formats."""
        total = Deviation()
        with self.open(choice) as session:
            for call in self.calls:
                total.add(np.asarray(session.run(call.feeds)["sample"]), call.output)
        return total.relative

    @property
    def sizes(self) -> dict[str, int]:
        """How many weights there are of each kind."""
        sizes: dict[str, int] = {}
        for linear in self.linears:
            sizes[linear.kind] = sizes.get(linear.kind, 0) + linear.size
        return sizes


def choose(
    subject: Subject, ladder: Sequence[str], bound: float, report: Callable[[str], None]
) -> dict[str, str]:
    """The smallest formats with which the error stays within a bound.

    Each kind is tried alone. Errors of kinds add up in squares, nearly; the choice by that rule is
    then measured as a whole, and made again with a tighter bound where it missed.

    Args:
        subject: what is quantized.
        ladder: formats, the smallest first; above the last one a kind stays as it is.
        bound: of the relative error.
        report: told what goes on.
    """
    sizes = subject.sizes
    errors = {}
    for place, kind in enumerate(sizes, 1):
        report(f"{subject.graph}: trying {kind} ({place} of {len(sizes)})")
        errors[kind] = {form: subject.error({kind: form}) for form in ladder}
    budget = bound
    while True:
        choice = best(errors, sizes, ladder, budget)
        if not choice:
            return {}
        measured = subject.error(choice)
        report(f"{subject.graph}: error {measured:.2%} with {len(choice)} of {len(sizes)} kinds")
        if measured <= bound:
            return choice
        budget *= 0.98 * bound / measured


def best(
    errors: Mapping[str, Mapping[str, float]],
    sizes: Mapping[str, int],
    ladder: Sequence[str],
    bound: float,
) -> dict[str, str]:
    """The smallest formats, nearly, with which the errors' sum in squares is within a bound.

    Steps up the ladder, each where it takes most error off a byte, until the sum will do; then
    steps back down, the largest kinds first, where it still does.
    """
    rungs = [*ladder, FLOAT]
    squares = {kind: [*(of[form] ** 2 for form in ladder), 0.0] for kind, of in errors.items()}
    choice = dict.fromkeys(sizes, 0)

    def gain(kind: str) -> float:
        rung = choice[kind]
        grown = sizes[kind] * (WIDTH[rungs[rung + 1]] - WIDTH[rungs[rung]])
        return (squares[kind][rung] - squares[kind][rung + 1]) / grown

    def total() -> float:
        return sum(squares[kind][rung] for kind, rung in choice.items())

    while total() > bound**2:
        choice[max((k for k in choice if rungs[choice[k]] != FLOAT), key=gain)] += 1
    for kind in sorted(sizes, key=lambda kind: -sizes[kind]):
        while (
            choice[kind]
            and total() - squares[kind][choice[kind]] + (squares[kind][choice[kind] - 1])
            <= bound**2
        ):
            choice[kind] -= 1
    return {kind: rungs[rung] for kind, rung in choice.items() if rungs[rung] != FLOAT}


WIDTH = {**BYTES, FLOAT: 4.0}
"""Bytes of a weight, as it is held."""
