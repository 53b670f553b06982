"""Real engines of the embedded bundle, built without a GPU."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope import cli
from mutoscope.cli import build as commands
from mutoscope.engine import Bundle
from mutoscope.engine.backends.tensorrt import build as builds
from mutoscope.engine.backends.tensorrt.build import layers
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.graph import parsable
from mutoscope.engine.backends.tensorrt.package import PACKAGES
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import EngineStore
from mutoscope.errors import BundleError, MissingExtraError, MutoscopeError

EXTRA = "building engines needs the rtx extra: pip install -e '.[rtx]'"
pytest.importorskip("tensorrt_rtx", reason=EXTRA)
onnx = pytest.importorskip("onnx", reason=EXTRA)

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
FP32, FP16 = 1, 10
Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; gives the exit code, and what was printed: results or the error."""

    def run(*arguments: object) -> tuple[int, Any]:
        capfd.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as leave:
            if leave.code:
                return int(leave.code), capfd.readouterr().err.splitlines()[-1]
        return 0, capfd.readouterr().out

    return run


def build(run: Run, bundle: Path, graph: str, *more: str) -> dict[str, Any]:
    arguments = ["--graphs", graph, "--profile", "32x48x5", "--json", *more]
    code, printed = run("build", bundle, "--arch", "sm_86,sm_120", *arguments)
    assert code == 0, printed
    (engine,) = json.loads(printed)["engines"]
    return dict(engine)


def test_weights_stored_in_half_precision_are_fp32_in_the_engine(run: Run) -> None:
    """TensorRT folds the casts: the engine's weights take twice what the bundle stores."""
    bundle = Bundle.open(EMBEDDED)
    built = build(run, EMBEDDED, "vae_decoder_next")
    model = onnx.load(bundle.file("vae_decoder_next.onnx"), load_external_data=False)
    stored = {FP32: 0, FP16: 0}
    for tensor in model.graph.initializer:
        length = sum(int(entry.value) for entry in tensor.external_data if entry.key == "length")
        stored[tensor.data_type] = stored.get(tensor.data_type, 0) + length
    assert stored[FP16] > stored[FP32]
    assert built["weights_mb"] == pytest.approx((2 * stored[FP16] + stored[FP32]) / 1e6, rel=0.05)
    assert set(built["layers"]) <= {"fp32", "int64", "bool", "none"}
    assert built["layers"]["fp32"] > 10


def test_an_engine_of_the_command_is_whole_and_known(run: Run) -> None:
    built = build(run, EMBEDDED, "text_encoder", "--weight-streaming")
    assert (built["graph"], built["precision"], built["bundle"]) == (
        "text_encoder", "fp32", "mini-wan",
    )  # fmt: skip
    assert built["targets"] == ["sm_86", "sm_120"]
    longest = Bundle.open(EMBEDDED).manifest.text.max_tokens
    assert built["profile"] == {"batch": [1, 1, 1], "tokens": [1, min(32, longest), longest]}
    path = Path(built["path"])
    assert (path / "engine.plan").stat().st_size == pytest.approx(built["megabytes"] * 1e6, rel=0.1)
    listing = (path / "layers.txt").read_text()
    assert sum(built["layers"].values()) == listing.count("\nName: ") + 1
    assert "ONNX Layer: " in listing

    assert built["flags"] == ["weight-streaming"]

    again = build(run, EMBEDDED, "text_encoder", "--weight-streaming")
    assert again == built  # from the store: the very times are the same

    code, printed = run("engines", "list", "--json")
    assert code == 0
    assert json.loads(printed)["engines"] == [built]
    code, printed = run("inspect", path, "--json")
    told = json.loads(printed)
    assert (told["kind"], told["signed"], told["layers"]) == ("engine", True, built["layers"])
    assert told["profile"] == built["profile"]
    code, printed = run("engines", "prune")
    assert printed == "0.0 MB freed\n"
    code, printed = run("engines", "prune", "--all")
    assert float(printed.split()[0]) >= built["megabytes"]
    assert run("engines", "list") == (0, "0 engines, 0.0 MB\n")


@pytest.mark.parametrize(
    "reason",
    [
        "Unexpected exception std::bad_alloc",
        "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 9 bytes.)",
        "Error Code 1: Myelin (MyelinCheckException: myelin_tensor.h:47: CHECK(p) failed. In x)",
    ],
)
def test_a_build_that_memory_did_not_suffice_for_says_so(reason: str) -> None:
    """What TensorRT-RTX said under limits of 400 and 500 MB, and its code for it."""
    package = PACKAGES["tensorrt-rtx"]
    sizes = [LatentSize(2, 4, 4)]
    spec = describe(package, Bundle.open(EMBEDDED), "denoiser", sizes, ["sm_86"])
    assert str(builds._failure(spec, reason)).startswith("denoiser: out of memory: tensorrt-rtx ")
    assert "out of memory" not in str(builds._failure(spec, "Error Code 4: API Usage Error"))


CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")


@pytest.mark.skipif(not CHILDREN.exists(), reason="only Linux lists the children of a process")
def test_a_build_that_is_killed_leaves_the_others_and_can_be_made_again(run: Run) -> None:
    bundle, store = Bundle.open(EMBEDDED), EngineStore()
    build(run, EMBEDDED, "text_encoder")
    (kept,) = store.engines()
    sizes = [LatentSize(2, 4, 6)]
    spec = describe(PACKAGES["tensorrt-rtx"], bundle, "vae_decoder_first", sizes, ["sm_86"])
    told: list[tuple[str, int, int]] = []

    def kill(phase: str, done: int, steps: int) -> None:
        (child,) = CHILDREN.read_text().split()
        os.kill(int(child), signal.SIGKILL)

    with pytest.raises(MutoscopeError, match="^vae_decoder_first: its build was ended by SIGKILL;"):
        build_engine(store, bundle, spec, None, kill)
    left = {path.name for path in store.folder.iterdir()}
    assert left == {".key", ".locks", kept.path.name}
    assert store.engines() == [kept]
    built = build_engine(store, bundle, spec, None, lambda *report: told.append(report))
    assert store.engines() == [built, kept]
    assert len(told) > 10
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    assert told[-1][1] == told[-1][2] - 1 > 0  # as the last step ends TensorRT is silent


def test_a_limit_of_memory_ends_in_one_line(tmp_path: Path) -> None:
    """TensorRT-RTX says so, or crashes; which, differs from run to run."""
    command = [sys.executable, "-P", "-m", "mutoscope", "build", EMBEDDED, "--arch", "sm_86"]
    limits = (250 << 20, 250 << 20)
    done = subprocess.run(
        [*command, "--graphs", "denoiser", "-o", tmp_path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limits),
    )
    foretold, error = done.stderr.splitlines()
    assert done.returncode == 1
    assert re.match(
        r"denoiser: to build it takes roughly \d+\.\d MB of memory, 250\.0 MB", foretold
    )
    assert re.match("mutoscope: error: denoiser: (out of memory: |its build was ended by )", error)
    assert {path.name for path in tmp_path.iterdir()} == {".locks"}


@pytest.mark.parametrize(("free", "told"), [(300 << 20, True), (8 << 30, False), (None, False)])
def test_a_build_that_memory_may_not_suffice_for_is_foretold(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    free: int | None,
    told: bool,
) -> None:
    """The system would end it without a word."""
    monkeypatch.setattr(commands, "free_memory", lambda: free)
    with contextlib.suppress(SystemExit):
        cli.main(["build", str(EMBEDDED), "--graphs", "vae_decoder_next", "--arch", "sm_86"])
    captured = capsys.readouterr()
    assert captured.out.startswith("vae_decoder_next: ")
    line = r"vae_decoder_next: to build it takes roughly \d+\.\d MB of memory, 300\.0 MB are free; "
    assert bool(re.search(line, captured.err)) is told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--arch", "sm_89,sm_90"],
            "unknown compute capability 'sm_90'; did you mean 'sm_89'? (known: sm_120, sm_121, ",
        ),
        ([], "no NVIDIA GPU is here to build for; name compute capabilities with --arch, e.g. sm"),
        (["--arch", "sm_89", "--profile", "64x64"], "--profile: '64x64' is not WIDTHxHEIGHTxFRAM"),
        (["--arch", "sm_89", "--profile", "64x64x16"], "frames must be 4n+1, 16 is not: use 13 "),
        (["--arch", "sm_89", "--profile", "64x65x17"], "height must be a multiple of "),
        (["--arch", "sm_89", "--graphs", "denoisr"], "PATH has no graph 'denoisr' (it has: "),
        (["--arch", "sm_89", "--backend", "tensort"], "Invalid value for '--backend': 'tensort' i"),
        (["--arch", "sm_89", "--threads", "0"], "threads must be between 1 and "),
    ],
)
def test_mistakes(run: Run, arguments: list[str], told: str, tmp_path: Path) -> None:
    code, error = run("build", EMBEDDED, *arguments, "-o", tmp_path / "store")
    assert code == 2
    assert error.startswith("mutoscope: error: " + told.replace("PATH", str(EMBEDDED)))
    assert list(tmp_path.iterdir()) == []


def test_flags_that_need_a_gpu_say_so(run: Run, tmp_path: Path) -> None:
    arguments = ["--arch", "sm_89", "--graphs", "text_encoder", "--refit"]
    code, error = run("build", EMBEDDED, *arguments)
    assert code == 2
    assert "could not build it with --refit, which takes a GPU in the machine that b" in error
    assert run("engines", "list")[1] == "0 engines, 0.0 MB\n"


def test_without_a_driver_a_clip_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    code, error = run("generate", "a red circle", "--backend", "tensorrt-rtx", "-o", target)
    assert code == 2
    assert error.startswith("mutoscope: error: no NVIDIA GPU 0 that CUDA can use; ")
    assert list(tmp_path.iterdir()) == []


def test_the_full_package_is_named_where_it_is_missing(run: Run) -> None:
    code, error = run("build", EMBEDDED, "--backend", "tensorrt")
    told = "tensorrt is not installed; install it with: pip install 'mutoscope[tensorrt]'"
    assert (code, error) == (2, f"mutoscope: error: {told}")


def test_weights_outside_of_the_bundle_are_not_read(tmp_path: Path) -> None:
    graph = Bundle.open(EMBEDDED).graph("text_encoder")
    model = onnx.load(EMBEDDED / graph.file, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    next(e for e in tensor.external_data if e.key == "location").value = "../../secret"
    (tmp_path / graph.file).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"reads '../../secret', which is not among its weights"):
        parsable(tmp_path / graph.file, graph, "rtx")


def test_a_missing_onnx_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    graph = Bundle.open(EMBEDDED).graph("denoiser")
    with pytest.raises(MissingExtraError, match=r"pip install 'mutoscope\[rtx\]'"):
        parsable(EMBEDDED / graph.file, graph, "rtx")


def test_what_is_no_graph_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph at all")
    with pytest.raises(BundleError, match=r"a\.onnx is not an ONNX graph"):
        parsable(tmp_path / "a.onnx", Bundle.open(EMBEDDED).graph("denoiser"), "rtx")


def test_layers_are_counted_by_their_first_output() -> None:
    listing = (
        "Name: a, LayerType: kgen, Inputs: [ { Name: x, Datatype: Float, F } ], "
        "Outputs: [ { Name: y, Datatype: Half, F }, { Name: z, Datatype: Float, F } ], T\n"
        "Name: b, LayerType: kgen, Inputs: [], Outputs: [ { Name: v, Datatype: Int64, F } ]\n"
        "Name: c, LayerType: shape_call, Inputs: [], Outputs: [], TacticName:\n"
    )
    assert layers(listing) == {"fp16": 1, "int64": 1, "none": 1}
