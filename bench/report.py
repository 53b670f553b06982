"""Measurements as a table for people, or as records for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .baseline import Baseline
from .measure import Measurement

NONE = "–"


@dataclass(frozen=True)
class Run:
    """What was measured with one combination of settings.

    Attributes:
        facts: the settings, and what else holds for this run alone.
        measurements: of its stages.
    """

    facts: dict[str, Any]
    measurements: Sequence[Measurement]


@dataclass(frozen=True)
class Report:
    """Runs on one machine.

    Attributes:
        runs: each with the same facts, by name.
        machine: facts that hold for all.
        baseline: what to set them against, if anything.
    """

    runs: Sequence[Run]
    machine: dict[str, Any]
    baseline: Baseline | None = None

    @property
    def varied(self) -> list[str]:
        """The facts that differ between runs."""
        first = self.runs[0].facts
        return [name for name in first if any(r.facts[name] != first[name] for r in self.runs)]

    def rows(self, run: Run) -> list[dict[str, Any]]:
        """One flat record a measurement; times in milliseconds."""
        return [
            {
                "stage": m.stage,
                "mean_ms": round(1e3 * m.mean, 3),
                "sd_ms": round(1e3 * m.deviation, 3),
                "joules": None if m.joules is None else round(m.joules, 3),
                "repetitions": len(m.seconds),
                "scope": m.scope,
                **self._compared(run, m),
            }
            for m in run.measurements
        ]

    def _compared(self, run: Run, measured: Measurement) -> dict[str, float | None]:
        if self.baseline is None:
            return {}
        found = self.baseline.ratio(run.facts, measured)
        return {
            "ratio": None if found is None else round(found.value, 4),
            "ratio_sd": None if found is None else round(found.spread, 4),
        }


def as_markdown(report: Report) -> str:
    """A table, and below it what it was measured on; settings that vary have columns."""
    varied = report.varied
    compared = ["ratio to before"] if report.baseline else []
    counted = any(m.joules is not None for run in report.runs for m in run.measurements)
    energy = ["J"] if counted else []
    header = [*varied, "stage", "ms (mean ± sd)", *compared, *energy, "n", "what"]
    lines = [_line(header), _line(["---"] * len(header))]
    for run in report.runs:
        for row in report.rows(run):
            time = f"{row['mean_ms']:.1f} ± {row['sd_ms']:.1f}"
            ratio = [_ratio(row)] if report.baseline else []
            own = [run.facts[name] for name in varied]
            used = [NONE if row["joules"] is None else f"{row['joules']:.1f}"] if counted else []
            cells = [*own, row["stage"], time, *ratio, *used, row["repetitions"], row["scope"]]
            lines.append(_line(cells))
    shared = {k: v for k, v in report.runs[0].facts.items() if k not in varied}
    return "\n".join([*lines, "", facts_line({**shared, **report.machine})])


def _ratio(row: dict[str, Any]) -> str:
    return NONE if row["ratio"] is None else f"{row['ratio']:.3f} ± {row['ratio_sd']:.3f}"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def as_csv(report: Report) -> str:
    """One line a measurement, the facts repeated on each."""
    return csv_lines(
        [{**row, **run.facts, **report.machine} for run in report.runs for row in report.rows(run)]
    )


def as_json(report: Report) -> str:
    """One object: the machine, and the runs with their facts and every single time."""
    runs = [
        {
            **run.facts,
            "measurements": [
                {**row, "seconds": list(m.seconds)}
                for row, m in zip(report.rows(run), run.measurements, strict=True)
            ],
        }
        for run in report.runs
    ]
    return json.dumps({**report.machine, "runs": runs})


def facts_line(facts: dict[str, Any]) -> str:
    """What was measured, and on what, for the foot of a table."""
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


def interval(ends: tuple[float, float]) -> str:
    """Two shares, as the command line takes them: 0:0.6."""
    return "{:g}:{:g}".format(*ends)


def listed(sigmas: Sequence[float] | None) -> str:
    """Sigmas as a preset has them: 1/0.75/0.5; nothing where there are none."""
    return "/".join(f"{sigma:g}" for sigma in sigmas or ())


def csv_lines(table: Sequence[dict[str, Any]]) -> str:
    """Records with the same fields as CSV, headed by their names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().rstrip("\n")


FORMATS = {"md": as_markdown, "csv": as_csv, "json": as_json}
