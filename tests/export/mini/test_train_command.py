"""The training's command line: what it says to mistakes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from mutoscope.export.mini import __main__ as command


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "diffusers", "transformers", "safetensors"])
def test_a_missing_extra_is_named(
    package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str, *_: Any) -> object:
        return None if name == package else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    code, told = failure(capsys, "train", "vae", "--out", "anywhere")
    assert code == 2
    assert told == (
        f"mutoscope: error: {package} is not installed; "
        "install it with: pip install 'mutoscope[export]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "vea", "--out", "o"), "unknown stage 'vea'; did you mean 'vae'?"),
        (("train", "vae"), "Missing option '--out'."),
        (("train", "vae", "--out", "o", "--minutes", "-1"), "Invalid value for '--minutes'"),
        (("train", "vae", "--out", "o", "--minute", "1"), "No such option"),
        (
            ("train", "dit", "--out", "o", "--lora", "l.safetensors"),
            "--lora is for distill and lora, not for 'dit'",
        ),
        (("trian",), "No such command 'trian'."),
    ],
)
def test_a_mistake_gets_one_line(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    code, told = failure(capsys, *arguments)
    assert code == 2
    assert told.startswith(f"mutoscope: error: {message}")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
