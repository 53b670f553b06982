"""How peers are compared and what is told of it, with engines that are none."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pytest
from mutoscope.bench.peers import __main__ as command
from mutoscope.bench.peers import contest as contests
from mutoscope.bench.peers.contest import (
    OURS,
    OURS_INT8,
    Array,
    Engine,
    Opened,
    contest,
    frames_error,
    relative_error,
)
from mutoscope.bench.peers.report import as_markdown
from mutoscope.bench.suite import SkippedError
from mutoscope.bench.wan_layout import TextLayout, text_operations

WANTED = np.array([3.0, 4.0], np.float32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What engines have done; a run takes as many seconds as its name has letters."""
    done: list[str] = []
    clock = [0.0]

    def now() -> float:
        clock[0] += len(done[-1]) if done else 0
        return clock[0]

    monkeypatch.setattr(contests.time, "perf_counter", now)
    monkeypatch.setattr(contests.time, "sleep", lambda seconds: done.append(""))
    return done


def engine(name: str, calls: list[str], output: Array = WANTED) -> Engine:
    def run() -> Array:
        calls.append(name)
        return output

    opened = Opened(run, lambda: calls.append("before"), lambda: calls.append("rest"))
    return Engine(name, "fp32", lambda: opened)


def test_engines_take_turns(calls: list[str]) -> None:
    peer, ours = engine("twice as long as ours  ......", calls), engine(OURS, calls, WANTED * 1.01)
    found = contest([peer, ours], repetitions=3)
    assert "ratio_int8" not in found[peer.name]
    runs = [call for call in calls if call in {peer.name, ours.name}]
    assert runs == [peer.name, ours.name] * 4
    turns = [["before", "", name, "rest"] for name in (peer.name, ours.name)]
    assert calls == [peer.name, "rest", ours.name, "rest", *chain(*turns * 3)]
    assert found[OURS]["seconds"] == [14.0] * 3
    assert found[peer.name]["ratio"] == dict.fromkeys(("median", "lowest", "highest"), 29 / 14)
    assert found[peer.name]["error"] == 0
    assert found[OURS]["error"] == pytest.approx(0.01, rel=1e-4)


def test_who_cannot_run_hides_no_other(calls: list[str]) -> None:
    def missing() -> Opened:
        import no_such_package

        return Opened(no_such_package.run)

    def refusing() -> Opened:
        raise SkippedError("nothing is compiled with --small or --no-compile")

    def exhausted(answers: list[Array]) -> Array:
        return answers.pop()

    engines = [
        engine("diffusers fp32", calls),
        Engine("missing", "fp32", missing),
        Engine("refusing", "fp32", refusing),
        Engine("tired", "fp32", lambda: Opened(partial(exhausted, [WANTED]))),
        engine("wrong", calls, np.ones(3, np.float32)),
        engine(OURS, calls),
    ]
    found = contest(engines, repetitions=2)
    assert found["missing"] == {"state": "skipped", "reason": "no_such_package is not installed"}
    assert found["refusing"]["reason"] == "nothing is compiled with --small or --no-compile"
    assert found["tired"] == {"state": "failed", "reason": "IndexError: pop from empty list"}
    assert found["wrong"]["state"] == "failed"
    assert "(3,) where the reference has (2,)" in found["wrong"]["reason"]
    assert len(found["diffusers fp32"]["seconds"]) == len(found[OURS]["seconds"]) == 2


def test_ratios_are_to_both_of_ours(calls: list[str]) -> None:
    engines = [engine(name, calls) for name in ("diffusers fp32", OURS, OURS_INT8)]
    found = contest(engines, repetitions=3)
    for name, ratio in ((OURS, "ratio"), (OURS_INT8, "ratio_int8")):
        assert found[name][ratio]["median"] == 1
        theirs, ours = (found[each]["seconds"][0] for each in ("diffusers fp32", name))
        assert found["diffusers fp32"][ratio]["median"] == pytest.approx(theirs / ours)


def test_ceilings_are_the_higher_of_two() -> None:
    one = {"state": "done", "copy_gb_s": 9.0, "int8_top_s": 0.7, "reason": "x"}
    other = {**one, "copy_gb_s": 8.0, "int8_top_s": 0.9}
    failed = {"state": "failed", "reason": "MemoryError"}
    assert command._higher(one, other) == {**one, "int8_top_s": 0.9}
    assert command._higher(one, failed) == command._higher(failed, one) == one


def test_without_us_there_are_no_ratios(calls: list[str]) -> None:
    found = contest([engine("diffusers fp32", calls)], repetitions=1)
    assert "ratio" not in found["diffusers fp32"]


def test_errors() -> None:
    assert relative_error(np.array([3.0, 4.5]), WANTED) == {"error": pytest.approx(0.1)}
    frames = np.full((2, 2), 100, np.uint8)
    found = frames_error(frames + np.uint8(1), frames, peak=255.0)
    assert found["psnr_db"] == pytest.approx(48.13, abs=0.01)
    assert frames_error(frames, frames, peak=255.0)["psnr_db"] is None


def test_operations_of_a_text_encoder() -> None:
    layout = TextLayout(4, num_heads=2, d_kv=3, d_ff=5, num_layers=1, vocab_size=9)
    matrices = 4 * (4 * 6) + 3 * (4 * 5)
    assert text_operations(layout, tokens=10) == 2 * 10 * matrices + 2 * (2 * 10 * 10 * 6)


def results() -> dict[str, Any]:
    done = {"state": "done", "precision": "fp32", "first_seconds": 4.0}
    ratio = {"median": 2.0, "lowest": 1.9, "highest": 2.2}
    engines = {
        "diffusers fp32": {**done, "seconds": [2.0, 2.2, 1.9], "error": 0.0, "ratio": ratio},
        "OpenVINO int8": {"state": "skipped", "reason": "nncf is not installed"},
    }
    return {
        "machine": {"cpu": "some", "cores": "2"},
        "ceilings": {"state": "done", "copy_gb_s": 9.0, "float32_tflop_s": 0.25},
        "denoiser": {"state": "done", "what": "step", "operations": 1e11, "engines": engines},
        "vae": {"state": "failed", "reason": "MemoryError: a | b\nno more"},
        "growth": {"state": "done", "sizes": {"a": {"what": "small", "engines": engines}}},
    }


def test_one_table() -> None:
    lines = as_markdown(results()).splitlines()
    assert lines[2:] == [
        "| step | diffusers fp32 | 2 (1.9–2.2) | 2.00 (1.90–2.20) | – | 0.0e+00 | 20% | 4 |",
        "| step | OpenVINO int8 | skipped: nncf is not installed |  |  |  |  |  |",
        "| small | diffusers fp32 | 2 (1.9–2.2) | 2.00 (1.90–2.20) | – | 0.0e+00 | – | 4 |",
        "| small | OpenVINO int8 | skipped: nncf is not installed |  |  |  |  |  |",
        "| vae | failed: MemoryError: a \\| b no more |  |  |  |  |  |  |",
        "",
        "Ceilings: float32_tflop_s: 0.25",
        "",
        "cpu: some, cores: 2",
    ]
    assert {line.count("|") - line.count("\\|") for line in lines[:7]} == {9}
