"""Q/DQ for TensorRT: what is in the graph, and what TensorRT-RTX makes of it without a GPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope import cli
from mutoscope.engine import Bundle, EngineOptions, Sessions
from mutoscope.engine.backends.onnxruntime import open_changed
from mutoscope.engine.backends.tensorrt.engines import can_build, describe
from mutoscope.engine.backends.tensorrt.package import Package
from mutoscope.engine.lora import Merged
from mutoscope.engine.manifest import TensorSpec
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.planner import needs
from mutoscope.engine.profiles import LatentSize
from mutoscope.errors import UserError
from mutoscope.quantize import quantize_bundle
from mutoscope.quantize.formats import Input, static
from mutoscope.quantize.graph import Linear, Rewriting, find_linears, read_weight
from mutoscope.quantize.grid import FP8, INT8, Grid
from mutoscope.quantize.groups import format_of
from mutoscope.quantize.tensors import CODES, Memory
from quantized import EMBEDDED, REQUEST, SMALL

EXTRA = "building engines needs the rtx extra: pip install -e '.[rtx]'"
GRIDS = {"int8": INT8, "fp8": FP8}
BOUNDS = {"int8": 0.02, "fp8": 0.06}
"""Of the error: float8 has three bits of mantissa, and rounds by 2.6 % of each number, mostly."""

TEXT_ENCODERS = {"int8": "int4", "fp8": None}
PEAK = 0.5
SINGLE, HALF = CODES["float32"], CODES["float16"]
AXES = {"batch": 1, "latent_frames": 2, "latent_height": 6, "latent_width": 4, "tokens": 128}


@pytest.fixture(scope="module", params=GRIDS)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(precision: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("static") / precision
    options = dataclasses.replace(
        SMALL, backend="tensorrt-rtx", precision=precision, target_error=BOUNDS[precision],
        accept_quality=True, text_encoder=TEXT_ENCODERS[precision],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(target.parent / "cache"))
        quantize_bundle(EMBEDDED, target, options)
    return target


def test_scales_are_settled_and_symmetric(precision: str, made: Path) -> None:
    bundle = Bundle.open(made)
    spec = bundle.manifest.quantization
    assert spec is not None
    assert (spec.backend, bundle.precision) == ("tensorrt-rtx", precision)
    text = {"text_encoder"} if TEXT_ENCODERS[precision] else set()
    assert spec.formats.keys() == {"denoiser"} | text
    assert set(spec.formats["denoiser"].values()) == {f"{precision}-static"}
    assert 0.001 < spec.quality.errors["denoiser"] < 2 * BOUNDS[precision]
    file = OnnxFile(bundle, "denoiser")
    tensors = {tensor.name: tensor for tensor in file.model.graph.initializer}
    given = [n for n in file.model.graph.node if n.op_type == "QuantizeLinear"]
    assert len({node.input[0] for node in given}) == len(given)  # one for all that share an input
    for node in given:
        step, zero = (tensors[name] for name in node.input[1:])
        assert list(step.dims) == []
        assert np.frombuffer(step.raw_data, np.float32) > 0
        assert (zero.data_type, zero.raw_data) == (CODES[GRIDS[precision].dtype().name], b"\0")


def test_weights_are_the_sources_rounded(precision: str, made: Path) -> None:
    bundle, source = Bundle.open(made), OnnxFile(Bundle.open(EMBEDDED), "denoiser")
    assert bundle.manifest.quantization is not None
    formats, file = bundle.manifest.quantization.formats["denoiser"], OnnxFile(bundle, "denoiser")
    tensors = {tensor.name: tensor for tensor in file.model.graph.initializer}
    linear = next(x for x in find_linears(source) if format_of(x.name, formats))
    stored = tensors[f"{linear.result}.weight.{precision}"]
    numbers = np.frombuffer(file.external(stored), GRIDS[precision].dtype()).astype(np.float32)
    assert np.abs(numbers).max() == GRIDS[precision].largest
    scale, weight = file.read(f"{linear.result}.weight.scale"), read_weight(source, linear)
    smoothing = tensors.get(f"{linear.source}.smoothing")
    inverse = file.read(smoothing.name) if smoothing else np.ones(linear.shape[0], np.float32)
    rounded = numbers.reshape(linear.shape) * scale
    step = scale / 2 if precision == "int8" else np.abs(rounded) / 16 + scale * 2.0**-10
    assert (np.abs(rounded - weight / inverse[:, None]) <= 1.001 * step).all()


def test_it_makes_clips_on_a_cpu_too_and_the_planner_knows_it(precision: str, made: Path) -> None:
    with mutoscope.load(made, precision=precision, threads=1) as pipe:
        assert pipe("a red circle spins", seed=1, **REQUEST).frames.shape == (5, 48, 32, 3)
    before, after = (needs(Bundle.open(path), "denoiser", AXES) for path in (EMBEDDED, made))
    assert after.gpu.weights < 0.8 * before.gpu.weights
    if precision == "fp8":  # a CPU decodes it
        assert after.cpu.weights == pytest.approx(before.cpu.weights, rel=0.02)
    else:
        assert after.cpu.weights < 0.8 * before.cpu.weights


@pytest.mark.parametrize("grid", [INT8, FP8], ids=lambda grid: grid.name)
def test_onnx_runtime_computes_what_the_numbers_say(grid: Grid) -> None:
    """A product with three axes, inputs beyond the range that was settled."""
    bundle = Bundle.open(EMBEDDED)
    file, memory = OnnxFile(bundle, "denoiser"), Memory()
    linear = next(x for x in find_linears(file) if x.name == "blocks.0.ffn.net.0.proj")
    weight, rewriting = read_weight(file, linear), Rewriting(file, memory)
    static(grid, rewriting, linear, Input(None, PEAK))
    names = [linear.source, f"{linear.result}.product"]
    for name in names:
        rewriting.output(name)
    shown = [TensorSpec(name=name, dtype="float32", shape=()) for name in names]
    said = bundle.graph("denoiser")
    interface = msgspec.structs.replace(
        said, outputs=(*said.outputs, *shown), precision="fp8" if grid is FP8 else "int8"
    )
    content = Merged(rewriting.finish(), memory.values)
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {
        "hidden_states": rng.standard_normal((1, 16, 2, 6, 4)).astype(np.float32),
        "timestep": np.full((1, 2), 700, np.float32),
        "encoder_hidden_states": rng.standard_normal((1, 7, 128)).astype(np.float32),
    }
    with open_changed(bundle, "denoiser", EngineOptions(1), interface, content) as session:
        found = session.run(feeds)
    given, got = (np.asarray(found[name]) for name in names)
    assert np.abs(given).max() > PEAK
    wanted = rounded(grid, given) @ grid.rounded(weight, grid.scales(weight))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def rounded(grid: Grid, values: Any) -> Any:
    """As `QuantizeLinear` does, which has -128 among its numbers."""
    scale = grid.scale(PEAK)
    below = values / scale < -127.5
    return np.where(below & (grid is INT8), -128 * scale, grid.rounded(values, scale))


def test_half_precision_keeps_its_type_with_one_scale() -> None:
    """In an fp16 graph scales are fp16 too, and none is so small that it would be lost."""
    linear, file = half_linear(FP8)
    kinds = {t.name.removeprefix(linear.source): t for t in file.model.graph.initializer}
    assert kinds[".smoothed.step"].data_type == kinds[".smoothing"].data_type == HALF
    scale = kinds[f"{linear.result}.weight.scale"]
    assert scale.data_type == HALF
    assert (np.frombuffer(scale.raw_data, np.float16) >= 2.0**-14).all()


def test_half_precision_is_left_for_products_with_scales_a_channel() -> None:
    """Their sums, of numbers that are not scaled yet, are up to 127 x 127 x the width."""
    linear, file = half_linear(INT8)
    kinds = {t.name.removeprefix(linear.source): t for t in file.model.graph.initializer}
    assert kinds[".smoothing"].data_type == HALF
    assert kinds[".smoothed.single.step"].data_type == SINGLE
    assert kinds[f"{linear.result}.weight.scale"].data_type == SINGLE
    casts = {n.output[0]: n for n in file.model.graph.node if n.op_type == "Cast"}
    widened = casts[f"{linear.source}.smoothed.single"]
    narrowed = casts[f"{linear.result}.product"]
    assert [cast.attribute[0].i for cast in (widened, narrowed)] == [SINGLE, HALF]
    products = {n.output[0] for n in file.model.graph.node if n.op_type == "MatMul"}
    assert narrowed.input[0] in products


def half_linear(grid: Grid) -> tuple[Linear, OnnxFile]:
    """The first product, as if it were fp16, in eight bits, and its graph."""
    file = OnnxFile(Bundle.open(EMBEDDED), "denoiser")
    linear = dataclasses.replace(find_linears(file)[0], half=True)
    given = Input(np.full(linear.shape[0], 2e-3, np.float32), 1e-3)
    rewriting = Rewriting(file, Memory())
    static(grid, rewriting, linear, given)
    rewriting.finish()
    return linear, file


def test_tensorrt_computes_it_in_eight_bits(
    precision: str, made: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    pytest.importorskip("onnx", reason=EXTRA)
    engine = build(made, capfd, tmp_path)
    assert engine["precision"] == precision
    assert engine["targets"] == ["sm_89", "sm_120"]
    assert engine["layers"][precision] >= 10
    plain = needs(Bundle.open(EMBEDDED), "denoiser", AXES).gpu.weights
    assert engine["weights_mb"] < 0.8 * plain / 1e6
    listing = (Path(engine["path"]) / "layers.txt").read_text()
    kind = {"int8": "Int8", "fp8": "FP8"}[precision]
    products = [line for line in listing.splitlines() if "LayerType: gemm" in line]
    assert sum(line.count(f"Datatype: {kind}") == 2 for line in products) >= 10


def build(bundle: Path, capfd: pytest.CaptureFixture[str], store: Path) -> dict[str, Any]:
    arguments = ["--graphs", "denoiser", "--profile", "32x48x5", "--arch", "sm_89,sm_120", "--json"]
    cli.main(["build", str(bundle), *arguments, "-o", str(store / "store")])
    (engine,) = json.loads(capfd.readouterr().out)["engines"]
    return dict(engine)


class Known(Package):
    """A package that is not there, and what it would build for."""

    def version(self) -> str:
        return "1"

    def capabilities(self) -> tuple[str, ...]:
        return "sm_75", "sm_86", "sm_89", "sm_120"


def test_gpus_without_fp8_are_refused_before_anything_is_built() -> None:
    bundle = Bundle.open(EMBEDDED)
    graphs = bundle.manifest.graphs
    denoiser = msgspec.structs.replace(graphs["denoiser"], precision="fp8")
    manifest = msgspec.structs.replace(bundle.manifest, graphs={**graphs, "denoiser": denoiser})
    fp8, sizes = Bundle(bundle.path, manifest, bundle.sha256), [LatentSize(2, 4, 6)]
    package = Known("tensorrt-rtx", "tensorrt_rtx", "rtx", ahead_of_time=True)
    spec = describe(package, fp8, "denoiser", sizes, ["sm_120", "sm_89"])
    assert (spec.precision, spec.targets) == ("fp8", ("sm_89", "sm_120"))
    with pytest.raises(UserError) as refusal:
        describe(package, fp8, "denoiser", sizes, ["sm_89", "sm_86", "sm_75"])
    assert str(refusal.value) == (
        f"{bundle.path}: the graph 'denoiser' is in fp8, which GPUs compute from sm_89 on, "
        "sm_75 and sm_86 not; make a bundle for it with: "
        "mutoscope quantize BUNDLE OUT --backend tensorrt-rtx --precision int8"
    )
    assert describe(package, fp8, "text_encoder", sizes, ["sm_86"]).targets == ("sm_86",)


def test_a_text_encoder_in_few_bits_is_for_onnx_runtime(precision: str, made: Path) -> None:
    bundle = Bundle.open(made)
    narrow = TEXT_ENCODERS[precision] is not None
    assert bundle.graph("text_encoder").precision == ("int4" if narrow else "fp32")
    for backend in ("tensorrt-rtx", "null", "onnxruntime"):
        wanted = "onnxruntime" if narrow and backend == "tensorrt-rtx" else backend
        assert Sessions(bundle, backend, EngineOptions()).text_backend == wanted
    assert Sessions(bundle, "tensorrt-rtx", EngineOptions(), text_backend="null").text_backend == (
        "null"
    )
    assert can_build(bundle, "denoiser")
    assert can_build(bundle, "text_encoder") is not narrow
    quantization = bundle.manifest.quantization
    assert quantization is not None
    missed = [miss for miss in quantization.quality.missed if miss.startswith("text_encoder ")]
    assert len(missed) == narrow  # 4 bits are too few, and it says so


def test_a_graph_for_another_backend_is_not_built(
    int8: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    with pytest.raises(SystemExit) as leave:
        cli.main(["build", str(int8), "--arch", "sm_89", "--graphs", "denoiser"])
    assert leave.value.code == 2
    told = (
        f"mutoscope: error: {int8}: the graph 'denoiser' is quantized for onnxruntime, which runs "
        "it beside TensorRT if it is the text encoder; other graphs are made for TensorRT with: "
        "mutoscope quantize BUNDLE OUT --backend tensorrt-rtx"
    )
    assert capfd.readouterr().err.splitlines()[-1] == told
