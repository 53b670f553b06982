"""The two kinds of failure: the user's mistake, and ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MutoscopeError(Exception):
    """A failure of this program. The command line reports it and exits with 1."""

    exit_code = 1


class UserError(MutoscopeError, ValueError):
    """Something the user can put right: one line that says what is wrong and what to do.

    The command line prints it without a traceback and exits with 2.
    """

    exit_code = 2


class BundleError(UserError):
    """A bundle that is damaged, incomplete, unsafe or of another version."""


class CheckpointError(UserError):
    """A checkpoint folder that cannot be exported."""


class MissingExtraError(UserError, ImportError):
    """A package of one of the optional extras is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'mutoscope[{extra}]'"
        )
        self.package = package
        self.extra = extra


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: it names the nearest one and lists the rest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})"
