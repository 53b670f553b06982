"""Measurements as a table for people, or as records for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from .measure import Measurement


def rows(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One flat record a measurement; times in milliseconds."""
    return [
        {
            "stage": m.stage,
            "mean_ms": round(1e3 * m.mean, 3),
            "sd_ms": round(1e3 * m.deviation, 3),
            "repetitions": len(m.seconds),
            "scope": m.scope,
        }
        for m in measurements
    ]


def as_markdown(measurements: Sequence[Measurement], facts: dict[str, Any]) -> str:
    """A table, and below it what it was measured on."""
    lines = ["| stage | ms (mean ± sd) | n | what |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {m.stage} | {1e3 * m.mean:.1f} ± {1e3 * m.deviation:.1f} | {len(m.seconds)} "
        f"| {m.scope} |"
        for m in measurements
    ]
    return "\n".join([*lines, "", facts_line(facts)])


def as_csv(measurements: Sequence[Measurement], facts: dict[str, Any]) -> str:
    """One line a measurement, the facts repeated on each."""
    return csv_lines([{**row, **facts} for row in rows(measurements)])


def facts_line(facts: dict[str, Any]) -> str:
    """What was measured, and on what, for the foot of a table."""
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


def csv_lines(table: Sequence[dict[str, Any]]) -> str:
    """Records with the same fields as CSV, headed by their names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().rstrip("\n")


def as_json(measurements: Sequence[Measurement], facts: dict[str, Any]) -> str:
    """One object: the facts, and the records with every single time."""
    records = [
        {**row, "seconds": list(m.seconds)}
        for row, m in zip(rows(measurements), measurements, strict=True)
    ]
    return json.dumps({**facts, "measurements": records})


FORMATS = {"md": as_markdown, "csv": as_csv, "json": as_json}
