"""Which kinds of products stay as they are."""

from __future__ import annotations

import pytest
from mutoscope.quantize.sensitivity import best

SIZES = {"small": 10, "large": 1000}


def errors(small: float, large: float) -> dict[str, dict[str, float]]:
    return {"small": {"int8": small}, "large": {"int8": large}}


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
    choice = best(errors(small, large), SIZES, ["int8"], bound)
    assert choice == dict.fromkeys(kept, "int8")


def test_a_ladder_is_climbed_before_a_kind_is_left_alone() -> None:
    tried = {
        "small": {"int4-weights": 0.05, "int8-weights": 0.003},
        "large": {"int4-weights": 0.01, "int8-weights": 0.001},
    }
    ladder = ["int4-weights", "int8-weights"]
    choice = best(tried, SIZES, ladder, 0.011)
    assert choice == {"small": "int8-weights", "large": "int4-weights"}
    assert best(tried, SIZES, ladder, 0.0035) == dict.fromkeys(SIZES, "int8-weights")
    assert best(tried, SIZES, ladder, 0.0015) == {"large": "int8-weights"}
