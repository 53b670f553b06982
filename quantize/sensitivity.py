"""Which products bear which format: tried on the model itself, group by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..engine import EngineOptions, Session
from ..engine.backends.onnxruntime import open_changed
from ..engine.bundle import Bundle
from ..engine.lora import Merged
from ..engine.onnx_file import OnnxFile
from ..engine.weight_formats import BYTES
from .deviation import relative
from .formats import FLOAT, FLOAT8, FORMATS, Input
from .graph import Linear, Rewriting
from .groups import covers, format_of, halves, kind_of
from .tensors import Memory, Store
from .trajectory import Call

Array = NDArray[np.float64]
Errors = Mapping[str, Mapping[str, Array]]
"""Of each prediction (calls,), by group and format."""

Choice = Mapping[str, str]
"""The format of each group of products; those that are not named stay as they are."""

TRIALS = 3
"""For each kind: so many trials at most. One opens the model and runs it."""


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
            form = format_of(linear.name, choice)
            if form is not None:
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

    def errors(self, choice: Choice) -> Array:
        """The relative error of each prediction (calls,), were products in other formats."""
        with self.open(choice) as session:
            runs = (np.asarray(session.run(call.feeds)["sample"]) for call in self.calls)
            return np.array(
                [relative(got, c.output) for got, c in zip(runs, self.calls, strict=True)]
            )

    @property
    def kinds(self) -> list[str]:
        """The groups of all products of a kind, in the order in which they are computed."""
        return list(dict.fromkeys(kind_of(linear.name) for linear in self.linears))

    def size(self, group: str) -> int:
        """How many weights a group has."""
        return sum(linear.size for linear in self.linears if covers(group, linear.name))

    def halves(self, group: str) -> tuple[str, str] | None:
        """A group in two, where it has more than one block."""
        return halves(group, [linear.name for linear in self.linears])


def choose(
    subject: Subject, ladder: Sequence[str], bound: float, report: Callable[[str], None]
) -> dict[str, str]:
    """The smallest formats with which the error of each prediction stays within a bound.

    Each kind is tried alone, and in halves where it cannot be had whole. Errors add up in squares,
    nearly; the choice by that rule is then measured as a whole, and made again with a tighter bound
    where it missed.

    Args:
        subject: what is quantized.
        ladder: formats, the smallest first; above the last one a group stays as it is.
        bound: of the relative error.
        report: told what goes on.
    """
    errors = try_groups(subject, ladder, bound, report)
    sizes = {group: subject.size(group) for group in errors}
    budget = bound
    while True:
        choice = best(errors, sizes, ladder, budget)
        if not choice:
            return {}
        worst = float(subject.errors(choice).max())
        report(f"{subject.graph}: at worst {worst:.2%} with {len(choice)} of {len(sizes)} groups")
        if worst <= bound:
            return choice
        budget *= 0.98 * bound / worst


def try_groups(
    subject: Subject, ladder: Sequence[str], bound: float, report: Callable[[str], None]
) -> Errors:
    """Try each kind alone; then, of those that would stay as they are, the largest in halves.

    Returns:
        the errors of groups that have each product once.
    """
    most = TRIALS * len(subject.kinds)
    errors: dict[str, dict[str, Array]] = {}
    waiting = list(subject.kinds)
    for number in range(1, most + 1):
        group = waiting.pop(0)
        report(f"{subject.graph}: trying {group} ({number} of at most {most})")
        errors[group] = {form: subject.errors({group: form}) for form in ladder}
        if not waiting and number + 2 <= most:
            waiting = _next_halves(subject, ladder, bound, errors)
        if not waiting:
            break
    return errors


def _next_halves(
    subject: Subject, ladder: Sequence[str], bound: float, errors: dict[str, dict[str, Array]]
) -> list[str]:
    """Take out of the errors the largest group that could be in two, and give these."""
    sizes = {group: subject.size(group) for group in errors}
    choice = best(errors, sizes, ladder, bound)
    for group in sorted(sizes.keys() - choice.keys(), key=lambda group: (-sizes[group], group)):
        if found := subject.halves(group):
            del errors[group]
            return list(found)
    return []


def best(
    errors: Errors,
    sizes: Mapping[str, int],
    ladder: Sequence[str],
    bound: float,
) -> dict[str, str]:
    """The smallest formats, nearly, with which the errors' sums in squares are within a bound.

    Steps up the ladder, each where it takes most error off a byte in the prediction that is then
    the worst, until all sums will do; then steps back down, the largest groups first, where they
    still do.

    Args:
        errors: of each group alone.
        sizes: how many weights there are of each group.
        ladder: formats, the smallest first.
        bound: of the relative error.
    """
    rungs = [*ladder, FLOAT]
    squares = {
        group: np.stack([*(of[form] ** 2 for form in ladder), np.zeros_like(of[ladder[0]])])
        for group, of in errors.items()
    }
    choice = dict.fromkeys(sizes, 0)

    def total() -> Array:
        sums = [squares[group][rung] for group, rung in choice.items()]
        return np.asarray(np.sum(sums, axis=0))

    def gain(group: str, worst: int) -> float:
        rung = choice[group]
        grown = sizes[group] * (WIDTH[rungs[rung + 1]] - WIDTH[rungs[rung]])
        return float(squares[group][rung, worst] - squares[group][rung + 1, worst]) / grown

    while (sums := total()).max() > bound**2:
        worst = int(sums.argmax())
        choice[
            max(
                (group for group in choice if rungs[choice[group]] != FLOAT),
                key=lambda group: gain(group, worst),
            )
        ] += 1
    for group in sorted(sizes, key=lambda group: -sizes[group]):
        while choice[group]:
            choice[group] -= 1
            if total().max() > bound**2:
                choice[group] += 1
                break
    return {group: rungs[rung] for group, rung in choice.items() if rungs[rung] != FLOAT}


WIDTH = {**BYTES, FLOAT: 4.0}
"""Bytes of a weight, as it is held."""
