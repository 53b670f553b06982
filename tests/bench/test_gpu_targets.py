"""What the GPU path is to reach, by made-up results."""

from __future__ import annotations

from typing import Any

import pytest
from mutoscope.bench.gpu_engines import GPU_BACKENDS
from mutoscope.bench.gpu_report import as_markdown
from mutoscope.bench.gpu_targets import targets

EAGER = "at least 2.0x diffusers-eager at no greater error"
COMPILED = "at least 1.5x diffusers-compiled at no greater error"
GAPS = "gaps at most 1% of a step"
SIZE = "416x240x17"
OUTSIDE = "at most 2% of a clip outside of text, denoiser and VAE"
FILE = "at most 2% of a clip to a file outside of text, denoiser and VAE"


ERROR = {"error": 2e-3, "reference": "fp32"}


def peer(seconds: float, error: float) -> dict[str, Any]:
    return {"seconds": seconds, "error": error, "reference": "fp32"}


def results() -> dict[str, Any]:
    """Of one backend, at the small size."""
    return {
        "small": False,
        "diffusers-eager": {
            "state": "done",
            SIZE: {**peer(0.08, 8e-3), "fp16": peer(0.09, 1e-3)},
        },
        "diffusers-compiled": {"state": "done", SIZE: peer(0.05, 7e-3)},
        "tensorrt-wan-small": {"state": "done", "size": SIZE, "run_ms": 40.0, **ERROR},
        "tensorrt-wan-clip-small": {
            "state": "done", "step_ms": 81.0, "rest_of_step_ms": 0.81, "outside_stages_share": 0.02,
            "file": {"outside_stages_share": 0.03},
        },
    }  # fmt: skip


def told(found: dict[str, Any], part: str) -> dict[str, tuple[Any, Any]]:
    return {t["target"]: (t["measured"], t["reached"]) for t in targets(found) if t["part"] == part}


def test_a_prediction_is_set_against_both_peers() -> None:
    assert told(results(), "tensorrt-wan-small") == {EAGER: (2.0, True), COMPILED: (1.25, False)}


def test_of_two_precisions_the_fastest_and_the_worst() -> None:
    found = results()
    found["diffusers-eager"][SIZE]["fp16"] = peer(0.07, 1e-3)
    (eager,) = [t for t in targets(found) if t["measured"] == 1.75]
    assert (eager["error"], eager["peer_error"], eager["reached"]) == (2e-3, 8e-3, False)


def test_speed_at_a_greater_error_does_not_count() -> None:
    found = results()
    found["tensorrt-wan-small"]["error"] = 9e-3
    assert told(found, "tensorrt-wan-small")[EAGER] == (2.0, False)


@pytest.mark.parametrize("lacking", ["tensorrt-wan-small", "diffusers-eager"])
def test_speed_at_an_unknown_error_is_not_measured(lacking: str) -> None:
    found = results()
    part = found[lacking]
    part.get(SIZE, part)["error"] = "not measured: no file"
    why = f"not measured: the error of {lacking}: not measured: no file"
    assert told(found, "tensorrt-wan-small")[EAGER] == (why, None)


def test_errors_from_what_is_not_exact_are_not_judged() -> None:
    found = results()
    for name in ("diffusers-eager", "diffusers-compiled"):
        found[name][SIZE]["reference"] = "bf16"
    assert told(found, "tensorrt-wan-small") == {
        EAGER: ("not measured: the error of diffusers-eager is from bf16", None),
        COMPILED: ("not measured: the error of diffusers-compiled is from bf16", None),
    }


def test_the_shares_of_a_clip() -> None:
    clip = "tensorrt-wan-clip-small"
    found = results()
    assert told(found, clip) == {GAPS: (0.01, True), OUTSIDE: (0.02, True), FILE: (0.03, False)}
    found[clip] |= {"rest_of_step_ms": 0.9, "outside_stages_share": 0.021}
    found[clip]["file"] = {"outside_stages_share": 0.01}
    assert told(found, clip) == {GAPS: (0.0111, False), OUTSIDE: (0.021, False), FILE: (0.01, True)}


def test_what_is_missing_is_told() -> None:
    found = results()
    found["diffusers-compiled"] = {"state": "failed", "reason": "took longer than 300 s"}
    assert told(found, "tensorrt-wan-small")[COMPILED] == (
        "not measured: diffusers-compiled failed: took longer than 300 s",
        None,
    )
    unknown = ("not measured: tensorrt-wan-large has not run", None)
    assert told(found, "tensorrt-wan-large") == {EAGER: unknown, COMPILED: unknown}


@pytest.mark.parametrize("small", [False, True])
def test_the_cpu_has_targets_only_where_the_suite_is_tried(small: bool) -> None:
    parts = {target["part"] for target in targets({"small": small})}
    backends = [*GPU_BACKENDS, *["onnxruntime"] * small]
    names = ("wan-small", "wan-large", "wan-clip-small", "wan-clip-large")
    assert parts == {f"{backend}-{name}" for backend in backends for name in names}


def test_they_stand_in_the_report() -> None:
    found = results()
    lines = as_markdown({**found, "targets": targets(found)}).splitlines()
    start = lines.index("## targets")
    assert lines[start + 2] == "| part | target | measured | error | reached |"
    assert f"| tensorrt-wan-small | {EAGER} | 2.0 | 0.002 beside 0.008 | yes |" in lines
    assert f"| tensorrt-wan-small | {COMPILED} | 1.25 | 0.002 beside 0.007 | no |" in lines
    missing = "not measured: tensorrt-wan-large has not run"
    assert f"| tensorrt-wan-large | {EAGER} | {missing} |  |  |" in lines
