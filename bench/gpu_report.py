"""What a suite found, as Markdown: parts, targets, then each part's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
ABOUT = ("state", "reason", "wall_seconds")
REACHED = {True: "yes", False: "no", None: ""}


def as_markdown(results: Figures) -> str:
    """Of results by part, each with its `state` and, where it is not done, a `reason`.

    What `gpu_targets` says stands among them as `targets`.
    """
    parts = {name: part for name, part in results.items() if isinstance(part, dict)}
    lines = ["| part | state | seconds | reason |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {part['state']} | {part.get('wall_seconds', '')} "
        f"| {_one_line(part.get('reason', ''))} |"
        for name, part in parts.items()
    ]
    lines += _targets(results.get("targets", []))
    for name, part in parts.items():
        figures = [(key, value) for key, value in _flat(part) if key not in ABOUT]
        if figures:
            lines += ["", f"## {name}", "", "| figure | value |", "| --- | --- |"]
            lines += [f"| {key} | {_one_line(str(value))} |" for key, value in figures]
    return "\n".join(lines) + "\n"


def _targets(targets: Sequence[Figures]) -> list[str]:
    if not targets:
        return []
    header = ["", "## targets", "", "| part | target | measured | error | reached |"]
    rows = [
        f"| {one['part']} | {one['target']} | {_one_line(str(one['measured']))} "
        f"| {_errors(one)} | {REACHED[one['reached']]} |"
        for one in targets
    ]
    return [*header, "| --- | --- | --- | --- | --- |", *rows]


def _errors(target: Figures) -> str:
    return f"{target['error']} beside {target['peer_error']}" if "error" in target else ""


def _flat(figures: Figures, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}, ")
        else:
            yield f"{above}{key}", value


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:500]
