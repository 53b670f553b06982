"""Whole bundles: what is in them, how far they are from what they were made of."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, open_graph
from mutoscope.engine.backends.onnxruntime import parts
from mutoscope.engine.backends.onnxruntime.native_operators import usable
from mutoscope.engine.backends.onnxruntime.parts import PartsSession
from mutoscope.engine.lora import own_loras
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.planner import needs
from mutoscope.errors import UserError
from mutoscope.quantize import QualityError, quantize_bundle
from mutoscope.quantize.deviation import Deviation
from mutoscope.quantize.graph import INT_ATTRIBUTE, find_linears, read_weight
from mutoscope.quantize.groups import format_of, kind_of
from mutoscope.quantize.quantizer import calibrate, linears_of, plan_clips
from mutoscope.quantize.trajectory import Clips
from quantized import EMBEDDED, REQUEST, SMALL

RNG = np.random.default_rng(0)
FEEDS: dict[str, dict[str, Any]] = {
    "denoiser": {
        "hidden_states": RNG.standard_normal((2, 16, 2, 6, 4)).astype(np.float32),
        "timestep": np.full((2, 2), 700, np.float32),
        "encoder_hidden_states": RNG.standard_normal((2, 512, 128)).astype(np.float32),
    },
    "text_encoder": {
        "input_ids": np.array([[5, 9, 30, 1]]),
        "attention_mask": np.ones((1, 4), np.int64),
    },
}


SCALES = 0.15
"""Bytes a weight: a float for 32 of them is the most."""


def run(path: Path, graph: str) -> Any:
    with open_graph(Bundle.open(path), graph) as session:
        (output,) = session.run(FEEDS[graph]).values()
        return np.asarray(output)


def error(path: Path, graph: str) -> float:
    """Of a graph's output, relative to the embedded bundle's."""
    deviation = Deviation()
    deviation.add(run(path, graph), run(EMBEDDED, graph))
    return deviation.relative


def quantized(path: Path, graph: str) -> int:
    """How many weights of a graph have eight bits, not the embedded bundle's 16."""
    spec = Bundle.open(path).manifest.quantization
    assert spec is not None
    linears = find_linears(OnnxFile(Bundle.open(EMBEDDED), graph))
    said = spec.formats[graph]
    changed = sum(linear.size for linear in linears if format_of(linear.name, said))
    assert changed > sum(linear.size for linear in linears) / 4
    return changed


def operators(path: Path, graph: str) -> set[str]:
    return {node.op_type for node in OnnxFile(Bundle.open(path), graph).model.graph.node}


def test_every_product_is_found_with_its_sum_and_its_checkpoint_name() -> None:
    bundle = Bundle.open(EMBEDDED)
    spec, linears = bundle.manifest.denoiser, find_linears(OnnxFile(bundle, "denoiser"))
    products = 10 * spec.layers + 6
    assert len(linears) == len({linear.name for linear in linears}) == products
    assert all(linear.bias for linear in linears)
    by_name = {linear.name: linear for linear in linears}
    width, widened = spec.hidden_size, by_name["blocks.3.ffn.net.0.proj"]
    assert (kind_of(widened.name), widened.shape) == (
        "blocks.*.ffn.net.0.proj", (width, spec.ffn_dim)
    )  # fmt: skip
    assert by_name["condition_embedder.time_proj"].shape == (width, 6 * width)


def test_gemm_weights_are_turned_as_products_take_them() -> None:
    file = OnnxFile(Bundle.open(EMBEDDED), "denoiser")
    plain, *_ = find_linears(file)
    node = file.model.graph.node[plain.nodes[0]]
    node.op_type = "Gemm"
    node.attribute.add(name="transB", i=1, type=INT_ATTRIBUTE)
    linear, *_ = find_linears(file)
    assert (linear.transposed, linear.shape) == (True, plain.shape[::-1])
    np.testing.assert_array_equal(read_weight(file, linear), read_weight(file, plain).T)


def test_the_bundle_is_whole_smaller_and_near_its_source(int8: Path) -> None:
    bundle, source = Bundle.open(int8), Bundle.open(EMBEDDED)
    assert source.manifest.presets
    assert bundle.manifest.presets == own_loras(bundle) == {}
    assert {n: g.precision for n, g in bundle.manifest.graphs.items() if g.precision != "fp32"} == {
        "denoiser": "int8", "text_encoder": "int8",
    }  # fmt: skip
    assert bundle.precision == "int8"
    spec = bundle.manifest.quantization
    assert spec is not None
    assert (spec.source, spec.backend) == (source.sha256, "onnxruntime")
    assert "DynamicQuantizeMatMul" in operators(int8, "denoiser")
    assert "MatMulNBits" in operators(int8, "text_encoder")
    for graph, most in (("denoiser", 0.03), ("text_encoder", 0.01)):
        assert 1e-5 < error(int8, graph) < most
        (data,) = bundle.graph(graph).data
        (before,) = source.graph(graph).data
        files, files_before = bundle.manifest.files, source.manifest.files
        saved = files_before[before].size - files[data].size
        assert 1 - SCALES < saved / quantized(int8, graph) <= 1
    untouched = {n: f for n, f in source.manifest.files.items() if "vae" in n or "token" in n}
    assert untouched.items() <= bundle.manifest.files.items()


def test_it_makes_clips_and_the_planner_knows_it(int8: Path) -> None:
    with mutoscope.load(int8, precision="int8", threads=1) as pipe:
        clip = pipe("a red circle moves left to right", seed=1, **REQUEST)
    assert clip.frames.shape == (5, 48, 32, 3)
    own = ["BlockedAttention", "BlockedMatMulNBits"]
    assert clip.record.kernels == (own if usable() else [])
    axes = {"batch": 2, "latent_frames": 2, "latent_height": 6, "latent_width": 4, "tokens": 512}
    for graph in ("denoiser", "text_encoder"):
        before, after = (needs(Bundle.open(b), graph, axes).cpu.weights for b in (EMBEDDED, int8))
        assert 3 - SCALES < (before - after) / quantized(int8, graph) <= 3


def test_another_precision_names_the_command_that_makes_it() -> None:
    with pytest.raises(UserError, match=r"mutoscope quantize BUNDLE OUT --precision int8$"):
        mutoscope.load(precision="int8")
    told = r"mutoscope quantize BUNDLE OUT --backend tensorrt-rtx --precision fp8$"
    with pytest.raises(UserError, match=told):
        mutoscope.load(precision="fp8")


def test_what_it_cost_is_measured_and_written_down(int8: Path) -> None:
    spec = Bundle.open(int8).manifest.quantization
    assert spec is not None
    quality = spec.quality
    assert quality.errors.keys() == {"denoiser", "text_encoder"}
    assert 0.002 < quality.errors["denoiser"] < 0.02
    assert 0.0005 < quality.errors["text_encoder"] < 0.01
    assert len(quality.step_errors) == len(quality.latent_errors) == REQUEST["steps"]
    assert min(quality.step_errors) <= quality.errors["denoiser"] <= max(quality.step_errors)
    assert all(error > 0 for error in quality.latent_errors)
    assert 30 < quality.psnr < 100
    assert 0.95 < quality.ssim < 1
    assert quality.clips == 1
    assert quality.missed == ()


def test_the_errors_of_latents_are_those_of_its_clips(int8: Path) -> None:
    spec = Bundle.open(int8).manifest.quantization
    assert spec is not None
    _, way, _ = plan_clips(Bundle.open(EMBEDDED), SMALL)
    deviations = [Deviation() for _ in spec.quality.latent_errors]
    with (
        mutoscope.load(preset="full", threads=1) as source,
        mutoscope.load(int8, threads=1) as made,
    ):
        for seed, prompt in enumerate(way.prompts, way.seed):
            ways = [pipe.stream(prompt, seed=seed, **REQUEST) for pipe in (made, source)]
            for deviation, got, wanted in zip(deviations, *ways, strict=True):
                deviation.add(got.latents, wanted.latents)
    again = [deviation.relative for deviation in deviations]
    assert again == pytest.approx(spec.quality.latent_errors, rel=0.01)


def test_int4_takes_eight_bits_where_four_are_too_few_and_the_gate_holds_it(tmp_path: Path) -> None:
    options = dataclasses.replace(
        SMALL, precision="int4", text_encoder="keep", target_error=0.05, accept_quality=True
    )
    manifest = quantize_bundle(EMBEDDED, tmp_path / "int4", options)
    assert manifest.quantization is not None
    formats = manifest.quantization.formats
    assert formats.keys() == {"denoiser"}
    assert set(formats["denoiser"].values()) == {"int4-weights", "int8-weights"}
    assert manifest.graphs["text_encoder"].precision == "fp32"
    assert 0.02 < error(tmp_path / "int4", "denoiser") < 0.15
    (missed, *_) = manifest.quantization.quality.missed
    assert re.fullmatch(r"denoiser error \d+\.\d\d% at step \d of 3, at most 2% wanted", missed)


def test_what_misses_the_gate_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mutoscope.quantize.quality.MIN_PSNR", 99.0)
    with pytest.raises(
        QualityError, match=r"nothing was written: PSNR .* dB, at least 99 wan"
    ) as e:
        quantize_bundle(EMBEDDED, tmp_path / "out", SMALL)
    assert e.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_writes_the_same_bundle(int8: Path, tmp_path: Path) -> None:
    quantize_bundle(EMBEDDED, tmp_path / "again", SMALL)
    first, second = (
        hashlib.sha256((path / "denoiser.int8.data").read_bytes()).hexdigest()
        for path in (int8, tmp_path / "again")
    )
    assert first == second


def test_a_text_encoder_larger_than_memory_is_judged_in_parts(
    int8: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[int] = []
    run = PartsSession._run

    def watched(session: PartsSession, feeds: Any) -> Any:
        ran.append(len(session._parts))
        return run(session, feeds)

    monkeypatch.setattr(parts, "MOST", 0)
    monkeypatch.setattr(parts, "PART", 100_000)
    monkeypatch.setattr(PartsSession, "_run", watched)
    manifest = quantize_bundle(EMBEDDED, tmp_path / "parts", SMALL)
    assert manifest == Bundle.open(int8).manifest
    assert len(ran) > 1
    assert min(ran) > 10


def refused(source: Path, target: Path, told: str, **options: Any) -> None:
    there = sorted(target.parent.iterdir())
    with pytest.raises(UserError) as refusal:
        quantize_bundle(source, target, dataclasses.replace(SMALL, **options))
    assert str(refusal.value).startswith(told)
    assert sorted(target.parent.iterdir()) == there


def test_mistakes_of_the_command(int8: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    refused(int8, target, f"{int8} is quantized already (int8); quantize the bundle that it was m")
    told = "unknown precision for onnxruntime 'int9'; did you mean 'int8'? (known: int4, int8)"
    refused(EMBEDDED, target, told, precision="int9")
    told = "onnxruntime has no products in fp8, it would decode them to fp32 and gain nothing; use "
    refused(EMBEDDED, target, told, precision="fp8")
    told = "unknown text encoder's precision 'fp8'"
    refused(EMBEDDED, target, told, text_encoder="fp8")
    told = "unknown backend to quantize for 'tensorrt-rtz'; did you mean 'tensorrt-rtx'?"
    refused(EMBEDDED, target, told, backend="tensorrt-rtz")
    told = "unknown precision for tensorrt-rtx 'int4'"
    refused(EMBEDDED, target, told, backend="tensorrt-rtx", precision="int4")
    refused(EMBEDDED, tmp_path, f"{tmp_path} exists; choose another place or pass --overwrite")
    told = f"{EMBEDDED}: nothing of the graph 'denoiser' can be int8 within an error of 0.00%; a"
    refused(EMBEDDED, target, told, target_error=1e-7)


def test_half_precision_is_sent_back_to_the_exporter(
    change: Callable[..., Path], tmp_path: Path
) -> None:
    graphs = Bundle.open(EMBEDDED).manifest.graphs
    half = msgspec.structs.replace(graphs["denoiser"], precision="fp16")
    folder = change(graphs={**graphs, "denoiser": half})
    refused(folder, tmp_path / "out", f"{folder} is fp16, beside which onnxruntime comput")


def test_numbers_that_are_none_are_named(change: Callable[..., Path], tmp_path: Path) -> None:
    weight = "model.blocks.2.attn1.to_q.weight.transposed.half"
    folder = change(weight, float("nan"))
    told = f"{folder}/denoiser.onnx: the "
    with pytest.raises(UserError) as refusal:
        quantize_bundle(folder, tmp_path / "out", SMALL)
    assert str(refusal.value).startswith(told)
    assert "NaN or infinite" in str(refusal.value)
    file = OnnxFile(Bundle.open(folder), "denoiser")
    linear = next(x for x in find_linears(file) if x.weight == weight)
    with pytest.raises(
        UserError, match=r"the weight 'blocks\.2\.attn1\.to_q' has values that are NaN"
    ):
        read_weight(file, linear)
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


def test_a_graph_without_products_says_so() -> None:
    source = Bundle.open(EMBEDDED)
    told = f"{EMBEDDED}: the graph 'vae_decoder_first' has no product with a constant matrix"
    with pytest.raises(UserError, match=told):
        linears_of(source, "vae_decoder_first")


def test_a_denoiser_that_no_step_comes_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutoscope.quantize.quantizer.record", lambda *arguments: iter([[]]))
    clips = Clips(("a red circle",), 0, {})
    with pytest.raises(UserError, match=r"no step of these clips comes to 'denoiser'; give more"):
        calibrate(Bundle.open(EMBEDDED), clips, None)
