"""Q/DQ for TensorRT: what is in the graph, and what TensorRT-RTX makes of it without a GPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope import cli
from mutoscope.engine import Bundle
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.planner import needs
from mutoscope.quantize import quantize_bundle
from mutoscope.quantize.formats import Input, static_int8
from mutoscope.quantize.graph import Rewriting, find_linears
from mutoscope.quantize.tensors import Memory
from quantized import EMBEDDED, REQUEST, SMALL

EXTRA = "building engines needs the rtx extra: pip install -e '.[rtx]'"


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("static") / "int8"
    options = dataclasses.replace(
        SMALL, backend="tensorrt-rtx", target_error=0.02, accept_quality=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(target.parent / "cache"))
        quantize_bundle(EMBEDDED, target, options)
    return target


def test_scales_are_settled_and_symmetric(static: Path) -> None:
    bundle = Bundle.open(static)
    spec = bundle.manifest.quantization
    assert spec is not None
    assert spec.backend == "tensorrt-rtx"
    assert spec.formats.keys() == {"denoiser"}  # TensorRT has nothing for weights alone
    assert set(spec.formats["denoiser"].values()) == {"int8-static"}
    file = OnnxFile(bundle, "denoiser")
    tensors = {tensor.name: tensor for tensor in file.model.graph.initializer}
    given = [n for n in file.model.graph.node if n.op_type == "QuantizeLinear"]
    assert len({node.input[0] for node in given}) == len(given)  # one for all that share an input
    for node in given:
        step, zero = (tensors[name] for name in node.input[1:])
        assert list(step.dims) == []
        assert np.frombuffer(step.raw_data, np.float32) > 0
        assert zero.raw_data == b"\0"


def test_it_makes_clips_on_a_cpu_too_and_the_planner_knows_it(static: Path) -> None:
    with mutoscope.load(static, threads=1) as pipe:
        assert pipe("a red circle spins", seed=1, **REQUEST).frames.shape == (5, 48, 32, 3)
    axes = {"batch": 1, "latent_frames": 2, "latent_height": 6, "latent_width": 4, "tokens": 512}
    before, after = (
        needs(Bundle.open(b), "denoiser", axes).gpu.weights for b in (EMBEDDED, static)
    )
    assert after < 0.8 * before


def test_half_precision_keeps_its_type() -> None:
    """In an fp16 graph scales are fp16 too, and none is so small that it would be lost."""
    file = OnnxFile(Bundle.open(EMBEDDED), "denoiser")
    linear = dataclasses.replace(find_linears(file)[0], half=True)
    static_int8(Rewriting(file, Memory()), linear, Input(np.full(linear.shape[0], 2e-3), 1e-3))
    kinds = {t.name.removeprefix(linear.source): t for t in file.model.graph.initializer}
    assert kinds[".smoothed.step"].data_type == kinds[".smoothing"].data_type == 10
    scale = kinds[f"{linear.result}.weight.scale"]
    assert scale.data_type == 10
    assert (np.frombuffer(scale.raw_data, np.float16) >= 2.0**-14).all()


def test_tensorrt_computes_it_in_int8(
    static: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    pytest.importorskip("onnx", reason=EXTRA)
    engine = build(static, capfd, tmp_path)
    assert engine["precision"] == "int8"
    assert engine["layers"]["int8"] >= 10
    axes = {"batch": 1, "latent_frames": 2, "latent_height": 6, "latent_width": 4, "tokens": 128}
    plain = needs(Bundle.open(EMBEDDED), "denoiser", axes).gpu.weights
    assert engine["weights_mb"] < 0.8 * plain / 1e6
    listing = (Path(engine["path"]) / "layers.txt").read_text()
    products = [x for x in listing.splitlines() if "LayerType: gemm" in x and "Datatype: Int8" in x]
    assert len(products) >= 10


def build(bundle: Path, capfd: pytest.CaptureFixture[str], store: Path) -> dict[str, Any]:
    arguments = ["--graphs", "denoiser", "--profile", "32x48x5", "--arch", "sm_89", "--json"]
    cli.main(["build", str(bundle), *arguments, "-o", str(store / "store")])
    (engine,) = json.loads(capfd.readouterr().out)["engines"]
    return dict(engine)


def test_a_graph_for_another_backend_is_not_built(
    int8: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason=EXTRA)
    with pytest.raises(SystemExit) as leave:
        cli.main(["build", str(int8), "--arch", "sm_89", "--graphs", "denoiser"])
    assert leave.value.code == 2
    told = (
        f"mutoscope: error: {int8}: the graph 'denoiser' is quantized for onnxruntime; make a "
        "bundle for TensorRT with: mutoscope quantize BUNDLE OUT --backend tensorrt-rtx"
    )
    assert capfd.readouterr().err.splitlines()[-1] == told
