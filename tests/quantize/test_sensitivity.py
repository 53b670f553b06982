"""Which products stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
import pytest
from mutoscope.quantize.groups import covers, format_of, halves
from mutoscope.quantize.sensitivity import Subject, best, try_groups
from mutoscope.quantize.trajectory import spread
from numpy.typing import NDArray

SIZES = {"small": 10, "large": 1000}


Errors = dict[str, dict[str, NDArray[np.float64]]]


def errors(**of: Sequence[float]) -> Errors:
    """Of each group in 8 bits, at each of some runs."""
    return {group: {"int8": np.array(each)} for group, each in of.items()}


@pytest.mark.parametrize(
    ("small", "large", "bound", "kept"),
    [
        (0.003, 0.004, 0.0051, {"small", "large"}),  # together 0.005
        (0.003, 0.004, 0.0049, {"large"}),  # the small one costs least
        (0.0005, 0.004, 0.0039, {"small"}),  # too little error in the small one: the other must go
        (0.003, 0.004, 0.0001, set()),
    ],
)
def test_what_costs_least_for_its_error_stays(
    small: float, large: float, bound: float, kept: set[str]
) -> None:
    choice = best(errors(small=[small], large=[large]), SIZES, ["int8"], bound)
    assert choice == dict.fromkeys(kept, "int8")


def test_a_ladder_is_climbed_before_a_kind_is_left_alone() -> None:
    tried = {
        "small": {"int4-weights": np.array([0.05]), "int8-weights": np.array([0.003])},
        "large": {"int4-weights": np.array([0.01]), "int8-weights": np.array([0.001])},
    }
    ladder = ["int4-weights", "int8-weights"]
    choice = best(tried, SIZES, ladder, 0.011)
    assert choice == {"small": "int8-weights", "large": "int4-weights"}
    assert best(tried, SIZES, ladder, 0.0035) == dict.fromkeys(SIZES, "int8-weights")
    assert best(tried, SIZES, ladder, 0.0015) == {"large": "int8-weights"}


def test_every_run_is_held_to_the_bound_not_their_mean() -> None:
    """Of the two, the large one costs more at the run that is worst without it."""
    tried = errors(small=[0.001, 0.004, 0.001], large=[0.001, 0.001, 0.0045])
    assert best(tried, SIZES, ["int8"], 0.005) == dict.fromkeys(SIZES, "int8")
    assert best(tried, SIZES, ["int8"], 0.0042) == {"small": "int8"}
    assert best(tried, SIZES, ["int8"], 0.0035) == {}


@pytest.mark.parametrize(
    ("group", "covered"),
    [
        ("proj_out", {"proj_out"}),
        ("blocks.*.ffn.net.2", {"blocks.0.ffn.net.2", "blocks.4.ffn.net.2", "blocks.12.ffn.net.2"}),
        ("blocks.1-4.ffn.net.2", {"blocks.4.ffn.net.2"}),
        ("blocks.12.ffn.net.2", {"blocks.12.ffn.net.2"}),
        ("blocks.1.ffn.net.2", set()),
        ("block.*.layer.0.q", {"block.3.layer.0.q"}),
        ("block.0-3.layer.0.q", {"block.3.layer.0.q"}),
    ],
)
def test_a_group_is_told_by_its_name(group: str, covered: set[str]) -> None:
    names = ["proj_out", "blocks.0.ffn.net.0", "block.3.layer.0.q", "block.3.layer.1.q"]
    names += [f"blocks.{number}.ffn.net.2" for number in (0, 4, 12)]
    assert {name for name in names if covers(group, name)} == covered
    assert {name for name in names if format_of(name, {group: "int8"}) == "int8"} == covered


def test_a_group_in_halves_has_the_same_products() -> None:
    names = [f"blocks.{number}.{end}" for number in range(5) for end in ("q", "k")]
    assert halves("blocks.*.q", names) == ("blocks.0-1.q", "blocks.2-4.q")
    assert halves("blocks.2-4.q", names) == ("blocks.2.q", "blocks.3-4.q")
    assert halves("blocks.2.q", names) is None
    assert halves("proj_out", ["proj_out"]) is None


class Tried:
    """Eight blocks of a kind, of which the third alone costs much, and a product of its own."""

    graph = "denoiser"
    kinds: ClassVar = ["blocks.*.q", "proj_out"]
    names: ClassVar = [f"blocks.{number}.q" for number in range(8)]

    def __init__(self) -> None:
        self.tried: list[str] = []

    def size(self, group: str) -> int:
        return sum(10 for name in self.names if covers(group, name)) or 1

    def halves(self, group: str) -> tuple[str, str] | None:
        return halves(group, self.names)

    def errors(self, choice: Mapping[str, str]) -> NDArray[np.float64]:
        (group,) = choice
        self.tried.append(group)
        error = 0.1 if covers(group, "blocks.2.q") else 0.003
        return np.array([0.001, error])


def test_what_cannot_be_had_whole_is_tried_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(trials: int) -> list[str]:
        monkeypatch.setattr("mutoscope.quantize.sensitivity.TRIALS", trials)
        subject = Tried()
        of = try_groups(cast("Subject", subject), ["int8"], 0.01, lambda line: None)
        assert len(subject.tried) <= 2 * trials
        assert sum(subject.size(group) for group in of) == 81
        sizes = {group: subject.size(group) for group in of}
        return sorted(best(of, sizes, ["int8"], 0.01))

    assert found(1) == ["proj_out"]
    assert found(2) == ["blocks.4-7.q", "proj_out"]
    assert found(4) == ["blocks.0-1.q", "blocks.3.q", "blocks.4-7.q", "proj_out"]


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_what_is_tried_reaches_from_the_first_to_the_last(count: int, chosen: list[int]) -> None:
    assert spread(range(10), count) == chosen
    assert spread(range(2), 4) == [0, 1]
