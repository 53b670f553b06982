import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mutoscope.bench import gpu_suite


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


def test_a_part_that_takes_too_long_hides_no_other(tmp_path: Path) -> None:
    done, results = suite(tmp_path, "--parts", "ceilings,environment", "--small", "--seconds", "0")
    assert done.exit_code == 0
    reasons = {name: results[name]["reason"] for name in ("ceilings", "environment")}
    assert reasons == dict.fromkeys(reasons, "took longer than 0 s")


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(small: bool) -> dict[str, Any]:
        raise gpu_suite.SkippedError("no such card")

    def broken(small: bool) -> dict[str, Any]:
        return {"rate": 1 / 0}

    monkeypatch.setattr(gpu_suite, "PARTS", {"absent": absent, "broken": broken})
    assert gpu_suite._here("absent", False) == {"state": "skipped", "reason": "no such card"}
    assert gpu_suite._here("broken", False) == {
        "state": "failed",
        "reason": "ZeroDivisionError: division by zero",
    }


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    done, results = suite(tmp_path, "--parts", "ceiling")
    assert done.exit_code == 2
    assert "unknown part 'ceiling'; did you mean 'ceilings'?" in done.output
    assert not results
