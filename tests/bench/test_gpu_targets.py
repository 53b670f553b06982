"""What the GPU path is to reach, by made-up results."""

from __future__ import annotations

from typing import Any

import pytest
from mutoscope.bench.gpu_engines import GPU_BACKENDS
from mutoscope.bench.gpu_report import as_markdown
from mutoscope.bench.gpu_targets import targets

EAGER, COMPILED = "at least 2.0x diffusers-eager", "at least 1.5x diffusers-compiled"
GAPS = "gaps at most 1% of a step"
OUTSIDE = "at most 2% of the clip outside of text, denoiser and VAE"


def results() -> dict[str, Any]:
    """Of one backend, at the small size."""
    return {
        "small": False,
        "diffusers-eager": {"state": "done", "416x240x17": {"seconds": 0.08}},
        "diffusers-compiled": {"state": "done", "416x240x17": {"seconds": 0.05}},
        "tensorrt-wan-small": {"state": "done", "size": "416x240x17", "run_ms": 40.0},
        "tensorrt-wan-clip-small": {
            "state": "done", "step_ms": 81.0, "rest_of_step_ms": 0.81, "outside_stages_share": 0.02,
        },
    }  # fmt: skip


def told(found: dict[str, Any], part: str) -> dict[str, tuple[Any, Any]]:
    return {t["target"]: (t["measured"], t["reached"]) for t in targets(found) if t["part"] == part}


def test_a_prediction_is_set_against_both_peers() -> None:
    assert told(results(), "tensorrt-wan-small") == {EAGER: (2.0, True), COMPILED: (1.25, False)}


def test_the_shares_of_a_clip() -> None:
    clip = "tensorrt-wan-clip-small"
    found = results()
    assert told(found, clip) == {GAPS: (0.01, True), OUTSIDE: (0.02, True)}
    found[clip] |= {"rest_of_step_ms": 0.9, "outside_stages_share": 0.021}
    assert told(found, clip) == {GAPS: (0.0111, False), OUTSIDE: (0.021, False)}


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
    assert lines[start + 2] == "| part | target | measured | reached |"
    assert f"| tensorrt-wan-small | {EAGER} | 2.0 | yes |" in lines
    assert f"| tensorrt-wan-small | {COMPILED} | 1.25 | no |" in lines
    missing = "not measured: tensorrt-wan-large has not run"
    assert f"| tensorrt-wan-large | {EAGER} | {missing} |  |" in lines
