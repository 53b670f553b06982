"""A suite's results as Markdown."""

from __future__ import annotations

from mutoscope.bench.gpu_report import as_markdown


def test_parts_then_figures() -> None:
    results = {
        "small": True,
        "clip": {"state": "done", "batch 1": {"ms": 1.5, "finite": True}, "wall_seconds": 2.0},
        "tests": {"state": "failed", "reason": "a | b\nnext line"},
    }
    assert as_markdown(results).splitlines() == [
        "| part | state | seconds | reason |",
        "| --- | --- | --- | --- |",
        "| clip | done | 2.0 |  |",
        "| tests | failed |  | a \\| b next line |",
        "",
        "## clip",
        "",
        "| figure | value |",
        "| --- | --- |",
        "| batch 1, ms | 1.5 |",
        "| batch 1, finite | True |",
    ]
