"""Every combination of options that take several values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from .. import load
from ..engine.manifest import PRECISIONS
from ..errors import UserError, unknown


def combinations(options: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """One value of each of some options, the last changing fastest; `None` where there is none.

    Where several precisions are asked for, a bundle goes with its own alone.

    Raises:
        UserError: a precision that none of the bundles has, or a bundle of none of them.
    """
    values = product(*(options[name] or (None,) for name in names))
    found = [dict(zip(names, each, strict=True)) for each in values]
    wanted = options["precision"]
    if len(wanted) < 2:
        return found
    has = {bundle: _precision(bundle) for bundle in options["bundle"] or (None,)}
    for precision in wanted:
        if precision not in PRECISIONS:
            raise UserError(unknown("precision", precision, PRECISIONS))
        if precision not in has.values():
            raise UserError(
                f"of several precisions each needs a bundle, {precision} has none; "
                "name them all, as in --bundle wan,wan-int8 --precision fp32,int8"
            )
    for bundle, precision in has.items():
        if precision not in wanted:
            raise UserError(f"{bundle} is {precision}; add it to --precision, or leave it out")
    return [each for each in found if each["precision"] == has[each["bundle"]]]


def _precision(bundle: str | None) -> str:
    with load(bundle) as pipe:
        return pipe.bundle.precision
