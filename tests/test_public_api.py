"""What `import mutoscope` offers, and that it loads nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import mutoscope
import pytest


def test_public_names() -> None:
    assert mutoscope.__all__ == [
        "Clip", "MutoscopeError", "Output", "Pipeline", "Request", "UserError", "load",
    ]  # fmt: skip
    for name in mutoscope.__all__:
        assert getattr(mutoscope, name).__doc__


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'mutoscope' has no attribute 'Pipe'"):
        mutoscope.Pipe  # noqa: B018


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import mutoscope", {"numpy", "av", "onnxruntime", "click", "tokenizers"}),
        ("import mutoscope.cli as c; c.main(['--help'])", {"numpy", "av", "onnxruntime"}),
    ],
)
def test_nothing_is_loaded_early(program: str, absent: set[str]) -> None:
    report = "; import sys" if "main" not in program else ""
    wrapped = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {program}{report}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", wrapped], capture_output=True, text=True, check=True
    )
    assert not absent & set(done.stdout.split())
