"""What a comparison found, as one table: a line for each engine at each piece of work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..report import facts_line
from ..suite import Figures
from .contest import median

HEADER = (
    "work", "engine", "seconds", "ratio to our fp32", "to our int8", "error", "of the ceiling",
    "first run, s",
)  # fmt: skip
CEILINGS = {
    "fp32": ("float32_tflop_s", "onnxruntime_float32_tflop_s"),
    "bf16": ("bfloat16_tflop_s",),
    "int8": ("int8_top_s",),
}
"""What was measured for each precision; the highest is the ceiling."""


def as_markdown(results: Figures) -> str:
    """The table, the machine's ceilings, and what it was measured on."""
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for part in _parts(results):
        lines += [_line(_cells(part, name, results)) for name in part["engines"]]
    lines += [_line((name, _reason(part))) for name, part in _undone(results)]
    ceilings = results.get("ceilings", {})
    if ceilings.get("state") == "done":
        measured = {n: ceilings[n] for names in CEILINGS.values() for n in names if n in ceilings}
        lines += ["", f"Ceilings: {facts_line(measured)}"]
    return "\n".join([*lines, "", facts_line(results["machine"])]) + "\n"


def share(part: Figures, engine: Figures, ceilings: Figures) -> float | None:
    """What part of the machine's matrix products an engine reaches; `None` where one is unknown."""
    ceiling = max(ceilings.get(name, 0) for name in CEILINGS[engine["precision"]])
    if not ceiling or "operations" not in part:
        return None
    return float(part["operations"] / median(engine) / 1e12 / ceiling)


def _parts(results: Figures) -> Iterator[Figures]:
    """Every piece of work that was done."""
    for part in _by_name(results).values():
        if "engines" in part:
            yield part
        yield from part.get("sizes", {}).values()


def _undone(results: Figures) -> Iterator[tuple[str, Figures]]:
    for name, part in _by_name(results).items():
        if part["state"] != "done":
            yield name, part


def _by_name(results: Figures) -> dict[str, Figures]:
    return {name: part for name, part in results.items() if name != "machine"}


def _cells(part: Figures, name: str, results: Figures) -> list[str]:
    engine = part["engines"][name]
    if engine["state"] != "done":
        return [part["what"], name, _reason(engine)]
    times = engine["seconds"]
    reached = share(part, engine, results.get("ceilings", {}))
    return [
        part["what"],
        name,
        f"{median(engine):.3g} ({min(times):.3g}–{max(times):.3g})",
        _ratio(engine.get("ratio")),
        _ratio(engine.get("ratio_int8")),
        _error(engine),
        "–" if reached is None else f"{reached:.0%}",
        f"{engine['first_seconds']:.3g}",
    ]


def _ratio(found: Figures | None) -> str:
    if found is None:
        return "–"
    return f"{found['median']:.2f} ({found['lowest']:.2f}–{found['highest']:.2f})"


def _error(engine: Figures) -> str:
    if "error" not in engine:
        return "–"
    psnr = engine.get("psnr_db")
    return f"{engine['error']:.1e}" + (f", {psnr:.1f} dB" if psnr else "")


def _reason(found: Figures) -> str:
    words = " ".join(found["reason"].split()).replace("|", "\\|")
    return f"{found['state']}: {words[:300]}"


def _line(cells: Any) -> str:
    padded = [*cells, *[""] * (len(HEADER) - len(cells))]
    return f"| {' | '.join(padded)} |"
