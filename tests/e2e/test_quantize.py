"""`mutoscope quantize`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quantized import EMBEDDED

SHORT: list[Any] = ["--calibration", 1, "--prompts", 1, "--size", "32x32", "--frames", 1]
SHORT += ["--steps", 2, "--target-error", 0.8, "--threads", 1]


def test_a_bundle_says_what_was_lost(run: Callable[..., Any], folder: Path) -> None:
    done = run("quantize", EMBEDDED, "int8", *SHORT, "--json")
    assert done.code == 0
    printed = json.loads(done.out)
    assert (printed["bundle"], printed["precision"]) == ("int8", "int8")
    assert printed["megabytes"] < 13
    assert printed["quality"]["clips"] == 1
    assert "denoiser: trying proj_out (16 of at most 48)" in done.err

    told = json.loads(run("inspect", "int8", "--json").out)
    assert told["quantization"]["quality"] == printed["quality"]
    formats = told["quantization"]["formats"]["denoiser"]
    assert set(formats.values()) == {"int8"}
    assert any(kind.startswith("blocks.*.attn1.") for kind in formats)
    assert "warning" not in told
    assert [path.name for path in folder.iterdir()] == ["int8"]

    again = run("quantize", EMBEDDED, "int8", *SHORT)
    assert (again.code, again.error) == (
        2, "int8 exists; choose another place or pass --overwrite",
    )  # fmt: skip


def test_a_bundle_that_misses_the_gate_is_refused_or_says_so(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutoscope.quantize.quality.MIN_PSNR", 99.0)
    refused = run("quantize", EMBEDDED, "out", *SHORT)
    assert refused.code == 1
    assert "\nMISSED: PSNR " in refused.err
    told = "mutoscope: error: the quality gate is missed, nothing was written: PSNR "
    assert refused.err.splitlines()[-1].startswith(told)
    assert list(folder.iterdir()) == []

    assert run("quantize", EMBEDDED, "out", *SHORT, "--accept-quality").code == 0
    told = "\nwarning: it misses the quality gate, which was accepted: PSNR "
    assert told in run("inspect", "out").out


def test_mistakes(run: Callable[..., Any], folder: Path) -> None:
    known = "(known: int4, int8)"
    done = run("quantize", EMBEDDED, "out", "--precision", "int5")
    assert (done.code, done.error) == (
        2, f"unknown precision for onnxruntime 'int5'; did you mean 'int8'? {known}",
    )  # fmt: skip
    done = run("quantize", EMBEDDED, "out", "--precision", "fp8")
    assert done.code == 2
    assert done.error == (
        "onnxruntime has no products in fp8, it would decode them to fp32 and gain nothing; "
        "use --precision int8, or --backend tensorrt-rtx for GPUs from sm_89 on"
    )
    assert run("quantize", EMBEDDED, "out", "--target-error", 0).code == 2
    assert run("quantize", EMBEDDED, "out", "--size", "33x32").error.startswith("width must be a")
    assert run("quantize", "nowhere", "out").error.startswith("no bundle at nowhere")
    assert list(folder.iterdir()) == []
