"""The comparison with other engines, at the embedded model's own sizes; and who is to be faster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mutoscope.bench.gpu_loop import embedded_checkpoint
from mutoscope.bench.wan_layout import TINY, Size, TextLayout

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("diffusers", reason="parity tests need the export extra")

from mutoscope.bench.peers import __main__ as command
from mutoscope.bench.peers import parts, wan_checkpoint
from mutoscope.bench.peers.contest import OURS, OURS_INT8, contest, median
from mutoscope.bench.peers.openvino_sessions import OpenVinoSession, OpenVinoSessions
from mutoscope.bench.peers.setting import GRAPHS, Setting

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
ENGINES = [
    "diffusers fp32", "diffusers fp32, compiled", "diffusers bf16", "diffusers bf16, compiled",
    "OpenVINO f32", "OpenVINO bf16", "OpenVINO int8", "OpenVINO int8, bf16", OURS, OURS_INT8,
]  # fmt: skip
SLOWEST = 0.75
"""Of what diffusers' step takes; ours took 0.46 of it when this was written, on one core."""


@pytest.fixture(autouse=True)
def _without_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds for every graph; what is not installed has a line all the same."""
    monkeypatch.setitem(sys.modules, "nncf", None)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, small=True, repetitions=1, threads=1)


def check_engines(engines: dict[str, Any]) -> None:
    """Everyone has a line; who computes in fp32 agrees with diffusers, and bf16 is seen."""
    for name, found in engines.items():
        if found["state"] == "done":
            assert len(found["seconds"]) == 1
            assert found["ratio"]["median"] > 0
            bound = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.1}[found["precision"]]
            assert found["error"] <= bound, name
        else:
            assert found["reason"] in {
                "nothing is compiled with --small or --no-compile",
                "openvino is not installed",
                "nncf is not installed",
            }
    assert engines["diffusers fp32"]["error"] == 0
    assert engines["diffusers bf16"]["error"] > 1e-4
    assert engines[OURS]["state"] == "done"


@pytest.mark.parametrize("part", ["denoiser", "text", "vae"])
def test_the_models(setting: Setting, part: str) -> None:
    found = parts.PARTS[part](setting)
    left_out = ("OpenVINO int8", "int8, bf16", "compiled") if part == "vae" else ()
    wanted = [name for name in ENGINES if not name.endswith(left_out)]
    assert list(found["engines"]) == wanted
    check_engines(found["engines"])
    assert part == "text" or found["operations"] > 1e6
    assert part == "vae" or found["engines"][OURS_INT8]["error"] > 1e-4


def test_a_peer_opens_every_graph_itself(setting: Setting) -> None:
    """The text encoder too, which may have a backend of its own."""
    pytest.importorskip("openvino", reason="the bench extra is not installed")
    bundle = setting.bundle("text")
    for name in bundle.manifest.graphs:
        with OpenVinoSessions(bundle, "f32", setting.options) as sessions:
            assert isinstance(sessions(name), OpenVinoSession)


def test_whole_clips(setting: Setting) -> None:
    found = parts.PARTS["clip"](setting)
    assert found["what"] == "embedded model, 48x32x5, 2 steps"
    assert list(found["engines"]) == ENGINES
    psnr_db = found["engines"][OURS]["psnr_db"]
    assert psnr_db is None or psnr_db >= 50  # none: the same frames


def test_growth(setting: Setting) -> None:
    sizes = parts.PARTS["growth"](setting)["sizes"]
    assert list(sizes) == ["64x32x5", "64x32x9"]
    for found in sizes.values():
        assert list(found["engines"]) == ["diffusers fp32", OURS]
        assert found["engines"][OURS]["error"] <= 1e-4


def test_a_missing_peer_is_named(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    engines = parts.PARTS["text"](setting)["engines"]
    told = {"state": "skipped", "reason": "openvino is not installed"}
    assert [engines[name] for name in ENGINES if name.startswith("OpenVINO")] == [told] * 4
    assert engines[OURS]["state"] == "done"


def test_one_command(tmp_path: Path) -> None:
    arguments = ["--small", "--parts", "ceilings", "--repetitions", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / command.RESULTS).read_text())
    assert {"float32_tflop_s", "bfloat16_tflop_s", "int8_top_s"} <= results["ceilings"].keys()
    assert {"cpu", "torch", "commit", "load", "repetitions"} <= results["machine"].keys()
    assert results["ceilings"]["peak_memory_gb"] > 0
    assert "Ceilings: float32_tflop_s" in (tmp_path / command.TABLE).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "denoise"], "unknown part 'denoise'; did you mean 'denoiser'?"),
        (["--frame", "416", "244"], "width and height of --frame must be multiples of 8"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(command.main, ["--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", GRAPHS)
def test_checkpoints_can_be_exported(tmp_path: Path, model: str) -> None:
    """All that is checked before an export, on tiny layouts."""
    from mutoscope.export.checkpoint import Checkpoint
    from mutoscope.export.exporter import Options, make_plan

    text = TextLayout(24, num_heads=3, d_kv=8, d_ff=32, num_layers=1, vocab_size=64)
    write: dict[str, Any] = {
        "denoiser": lambda to, like: wan_checkpoint.write(to, like, TINY),
        "text": lambda to, like: wan_checkpoint.write_text(to, like, text),
        "vae": lambda to, like: wan_checkpoint.write_vae(to, like, base=4),
    }
    write[model](tmp_path / "checkpoint", embedded_checkpoint())
    options = Options(graphs=GRAPHS[model])
    plan = make_plan(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "bundle", options)
    assert {graph.name for graph in plan.graphs} == {*GRAPHS[model], "denoiser"}


def test_a_step_is_faster_than_diffusers(setting: Setting) -> None:
    """Measured in turn, so that a busy machine slows both."""
    size = Size(96, 96, 17)
    both = [e for e in parts.denoisers(setting, size) if e.name in ("diffusers fp32", OURS)]
    found = contest(both, repetitions=15)
    assert median(found[OURS]) <= SLOWEST * median(found["diffusers fp32"])


def test_pictures(tmp_path: Path, setting: Setting) -> None:
    pytest.importorskip("matplotlib", reason="needs the bench extra: pip install -e '.[bench]'")
    from mutoscope.bench.peers.plots import draw

    results = {name: {"state": "done", **parts.PARTS[name](setting)} for name in ("text", "growth")}
    files = draw({"machine": {}, **results}, tmp_path)
    names = ["engines.svg", "engines.png", "growth.svg", "growth.png"]
    assert [path.name for path in files] == names
    assert all(1_000 < path.stat().st_size < 300_000 for path in files)
    assert "diffusers bf16" in files[0].read_text()
    assert draw({"machine": {}}, tmp_path) == []
