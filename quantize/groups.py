"""Which products change together: those of a kind, in all blocks or in some in a row.

A group is called after its products, with the numbers of their blocks: `blocks.*.ffn.net.2`,
`blocks.0-3.ffn.net.2`, `blocks.7.ffn.net.2`, `proj_out`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NUMBERS = re.compile(r"\b(blocks?)\.(\*|[0-9]+(?:-[0-9]+)?)\.")


def kind_of(name: str) -> str:
    """The group of all products that are called like one but for the numbers of their blocks."""
    return NUMBERS.sub(r"\1.*.", name)


def covers(group: str, name: str) -> bool:
    """Whether a product belongs to a group."""
    if kind_of(group) != kind_of(name):
        return False
    said, found = NUMBERS.search(group), NUMBERS.search(name)
    if said is None or found is None or said[2] == "*":
        return True
    first, _, last = said[2].partition("-")
    return int(first) <= int(found[2]) <= int(last or first)


def format_of(name: str, formats: Mapping[str, str]) -> str | None:
    """What is said of a product, if anything is."""
    return next((form for group, form in formats.items() if covers(group, name)), None)


def halves(group: str, names: Iterable[str]) -> tuple[str, str] | None:
    """A group in two of as many blocks, of some products; `None` where it is of one block."""
    found = (NUMBERS.search(name) for name in names if covers(group, name))
    numbers = sorted({int(each[2]) for each in found if each})
    if len(numbers) < 2:
        return None
    middle = len(numbers) // 2
    return _within(group, numbers[:middle]), _within(group, numbers[middle:])


def _within(group: str, numbers: list[int]) -> str:
    said = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    return NUMBERS.sub(rf"\1.{said}.", group)
