"""`optimum-cli export mutoscope`, found by optimum in the folder that the wheel puts beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from click import Argument
from mutoscope.cli import export
from mutoscope.engine import Bundle

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("optimum.commands.base", reason="needs the export extra")

pytestmark = pytest.mark.parity
ROOT = Path(mutoscope.__file__).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def optimum_cli(tmp_path: Path) -> Run:
    """Runs optimum's command line in an empty folder, with our file where a wheel has it."""
    work = tmp_path / "work"
    work.mkdir()
    paths = [str(ROOT / "plugins"), str(ROOT.parent), os.environ.get("PYTHONPATH", "")]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        program = "from optimum.commands.optimum_cli import main; main()"
        return subprocess.run(
            [sys.executable, "-P", "-c", program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            cwd=work, capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class that optimum registers."""
    monkeypatch.syspath_prepend(ROOT / "plugins")
    return import_module("optimum.commands.register.register_mutoscope").MutoscopeExportCommand


def test_export(optimum_cli: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = optimum_cli(
        "export", "mutoscope", "--model", tiny_checkpoint, "bundle", "--graphs", "denoiser",
        "--default", "width=32", "--default", "height=32", "--default", "frames=5", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["graphs"] == ["denoiser"]
    manifest = Bundle.open(tmp_path / "work" / "bundle").manifest
    assert (manifest.defaults.width, manifest.graphs["denoiser"].precision) == (32, "fp32")


def test_a_mistake_is_one_line(optimum_cli: Run, tmp_path: Path) -> None:
    done = optimum_cli("export", "mutoscope", "--model", "./none", "bundle")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "mutoscope: error: no checkpoint at none: there is no such folder"
    )
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "work").iterdir()) == []


def test_it_takes_the_options_of_mutoscope_export(command: Any) -> None:
    parser = ArgumentParser()
    command.parse_args(parser)
    taken = {option for action in parser._actions for option in action.option_strings}
    ours = {
        option
        for parameter in export.command.params
        if not isinstance(parameter, Argument)
        for option in parameter.opts
    }
    assert taken == ours | {"-h", "--help", "-m", "--model"}


def test_arguments_arrive(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("mutoscope.cli.main", seen.append)
    subparsers = ArgumentParser().add_subparsers()
    parser = command(subparsers).parser
    args = parser.parse_args(
        ["-m", "org/tiny@v1", "out", "--precision", "fp16", "--default", "fps=8", "--default",
         "steps=2", "--lora", "a.safetensors", "--preset", "fast:lora=a,steps=4",
         "--name=-odd-", "--verify",
         "--max-sequence-length", "9"]
    )  # fmt: skip
    args.func(args).run()
    assert seen == [
        ["export", "--precision=fp16", "--default=fps=8", "--default=steps=2",
         "--lora=a.safetensors", "--preset=fast:lora=a,steps=4", "--max-sequence-length=9",
         "--name=-odd-", "--verify", "--", "org/tiny@v1", "out"]
    ]  # fmt: skip
