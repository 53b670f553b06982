"""What share of the machine's ceiling each rate of a suite reaches."""

from __future__ import annotations

import statistics
from typing import Any

from .suite import Figures

CEILINGS = {
    "fp32": "float32_tflop_s",
    "fp16": "float16_tflop_s",
    "bf16": "bfloat16_tflop_s",
    "int8": "int8_top_s",
}
"""What the part `ceilings` calls the matrix products of each precision."""
NOT_MEASURED = "not available: the part ceilings has not measured it"


def with_shares(results: Figures) -> Figures:
    """The results, with `share_of_ceiling` beside each `tflop_s` that says its precision.

    Halves of the work in two precisions, as in "int8+fp16", are measured by both ceilings.
    """
    return _with_shares(results, results.get("ceilings", {}))


def _with_shares(figures: Figures, ceilings: Figures) -> Figures:
    found: Figures = {}
    for name, value in figures.items():
        found[name] = _with_shares(value, ceilings) if isinstance(value, dict) else value
        if name == "tflop_s" and "precision" in figures:
            found["share_of_ceiling"] = _share(value, figures["precision"], ceilings)
    return found


def _share(rate: float, precision: str, ceilings: dict[str, Any]) -> float | str:
    names = [CEILINGS[one] for one in precision.split("+")]
    if not all(ceilings.get(name) for name in names):  # a tiny product's rate is rounded to 0
        return NOT_MEASURED
    ceiling: float = statistics.harmonic_mean([ceilings[name] for name in names])
    return round(rate / ceiling, 3)
