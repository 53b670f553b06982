import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mutoscope.bench import gpu_parts, gpu_suite
from mutoscope.bench.gpu_setting import Setting
from mutoscope.bench.suite import SkippedError


def suite(folder: Path, *arguments: str) -> tuple[Result, dict[str, Any]]:
    done = CliRunner().invoke(gpu_suite.main, ["--out", str(folder), *arguments])
    path = folder / gpu_suite.RESULTS
    return done, json.loads(path.read_text()) if path.exists() else {}


def test_a_part_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    done, results = suite(tmp_path, "--parts", "environment", "--small")
    assert done.exit_code == 0
    assert results["small"] is True
    assert results["environment"]["state"] == "done"
    assert int(results["environment"]["cores"]) >= 1
    target = "at least 2.0x diffusers-eager at no greater error"
    wanted = {"part": "onnxruntime-wan-small", "target": target}
    why = "not measured: onnxruntime-wan-small has not run"
    assert {**wanted, "measured": why, "reached": None} in results["targets"]
    assert "## targets" in (tmp_path / gpu_suite.TABLES).read_text()


def test_a_part_that_takes_too_long_hides_no_other(tmp_path: Path) -> None:
    done, results = suite(tmp_path, "--parts", "ceilings,environment", "--small", "--seconds", "0")
    assert done.exit_code == 0
    reasons = {name: results[name]["reason"] for name in ("ceilings", "environment")}
    assert reasons == dict.fromkeys(reasons, "took longer than 0 s")


def test_parts_have_limits_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []

    def apart(command: list[str], seconds: int, cache: Path) -> dict[str, Any]:
        allowed.append(seconds)
        return {"state": "done"}

    monkeypatch.setattr(gpu_suite, "apart", apart)
    parts = "environment,export,tensorrt-wan-small,tensorrt-wan-clip-large"
    suite(tmp_path, "--parts", parts)
    assert allowed == [300, 1800, 900, 1800]
    allowed.clear()
    suite(tmp_path, "--parts", parts, "--seconds", "7")
    assert allowed == [7, 7, 7, 7]


def test_each_limit_is_some_part_s() -> None:
    for seconds in set(gpu_parts.LONGER.values()):
        assert seconds > gpu_parts.SECONDS
    for pattern in gpu_parts.LONGER:
        assert fnmatch.filter(gpu_parts.PARTS, pattern)


def test_what_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(setting: Setting) -> dict[str, Any]:
        raise SkippedError("no such card")

    def broken(setting: Setting) -> dict[str, Any]:
        return {"rate": 1 / 0}

    def needy(setting: Setting) -> dict[str, Any]:
        import no_such_package

        return {"version": no_such_package.__version__}

    parts = {"absent": absent, "broken": broken, "needy": needy}
    monkeypatch.setattr(gpu_suite, "PARTS", parts)
    assert [gpu_suite._here(name, Setting(tmp_path)) for name in parts] == [
        {"state": "skipped", "reason": "no such card"},
        {"state": "failed", "reason": "ZeroDivisionError: division by zero"},
        {"state": "skipped", "reason": "no_such_package is not installed"},
    ]


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    done, results = suite(tmp_path, "--parts", "ceiling")
    assert done.exit_code == 2
    assert "unknown part 'ceiling'; did you mean 'ceilings'?" in done.output
    assert not results
