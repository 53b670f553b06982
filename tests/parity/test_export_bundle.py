"""Whole bundles of tiny checkpoints: verified against PyTorch, and what their files are like."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope import cli
from mutoscope.bench.gpu_loop import embedded_checkpoint
from mutoscope.engine import Bundle
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.manifest import Source, TensorSpec
from mutoscope.engine.planner import weights_of
from mutoscope.engine.planner.graph import CODES, Value, read_graph
from mutoscope.engine.planner.shapes import infer
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.session import axis_length
from mutoscope.engine.store import EngineStore
from mutoscope.errors import BundleError
from mutoscope.export import Options, export_bundle, exporter
from mutoscope.export.checkpoint import Checkpoint

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
onnx = pytest.importorskip("onnx", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")
preview = pytest.importorskip("mutoscope.export.families.wan.preview")

pytestmark = pytest.mark.parity

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16
DEFAULTS = ["width=32", "height=32", "frames=5", "steps=2", "fps=8"]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0}

GRAPHS = [
    "denoiser", "text_encoder", "vae_decoder_first", "vae_decoder_next", "vae_encoder_first",
    "vae_encoder_next",
]  # fmt: skip


KINDS = {
    # what differs: VAE, shapes of the DiT, scheduler, files and their precision
    "four levels": {
        "vae": "four levels",
        "transformer": {
            "num_attention_heads": 3,
            "attention_head_dim": 10,
            "num_layers": 1,
            "cross_attn_norm": False,
            "qk_norm": None,
            "patch_size": (1, 1, 2),
        },
        "text_encoder": {"feed_forward_proj": "relu"},
        "scheduler": diffusers.UniPCMultistepScheduler(**FLOW),
        "max_shard_size": "30KB",
        "dtype": "bfloat16",
    },
    "residual": {
        "vae": "residual",
        "transformer": {"attention_head_dim": 6, "num_layers": 3, "patch_size": (1, 1, 1)},
        "scheduler": diffusers.DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **FLOW),
    },
}


@pytest.fixture(scope="module", params=["patchified fp32", "four levels fp32", "residual fp16"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def exported(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_checkpoint: Callable[..., Path],
) -> Bundle:
    """An exported and verified bundle."""
    if kind == "patchified fp32":
        return Bundle.open(request.getfixturevalue("tiny_bundle"))
    name, precision = kind.rsplit(" ", 1)
    folder = tmp_path_factory.mktemp("export")
    make_checkpoint(folder / "checkpoint", **KINDS[name])
    options = Options(precision=precision, defaults=DEFAULTS, verify=True, license="CC0-1.0")
    export_bundle(folder / "checkpoint", folder / "bundle", options)
    return Bundle.open(folder / "bundle")


def graphs(bundle: Bundle) -> Iterator[tuple[str, Any]]:
    for name, graph in bundle.manifest.graphs.items():
        yield name, onnx.load(bundle.file(graph.file), load_external_data=False)


def test_every_graph_and_a_clip_are_equal_to_pytorch(exported: Bundle) -> None:
    checks = exported.manifest.checks
    assert Counter(check.graph for check in checks) == {
        "text_encoder": 3, "denoiser": 3, "clip": 1,
        "vae_decoder_first": 3, "vae_decoder_next": 6,
        "vae_encoder_first": 3, "vae_encoder_next": 6,
    }  # fmt: skip
    assert all(check.passed for check in checks)
    if exported.precision == "fp32":
        errors = [check.value for check in checks if check.metric == "relative error"]
        assert max(errors) <= 3e-6  # roundings of fp32 in some tens of layers
        assert checks[-1].value >= 60  # dB: hardly a value off by one


def test_the_manifest_says_what_there_is(exported: Bundle) -> None:
    manifest = exported.manifest
    assert (manifest.family, manifest.name) == ("wan", "bundle")
    assert (manifest.source.name, manifest.source.license) == ("checkpoint", "CC0-1.0")
    assert sorted(manifest.graphs) == GRAPHS
    assert manifest.defaults.width == manifest.defaults.height == 32
    assert manifest.text.embedding_dim == 24
    assert manifest.denoiser.image is None
    assert manifest.text.max_tokens == 512
    assert manifest.latents.channels == 16
    assert manifest.latents.spatial_compression in {8, 16}
    assert "torch" in manifest.made_with
    patch = manifest.latents.patch_size
    scale = manifest.latents.spatial_compression
    assert manifest.limits.max_width == 32 * patch[2] * scale
    assert manifest.limits.max_frames == 4 * (32 * patch[0] - 1) + 1


def test_the_planner_follows_every_graph(exported: Bundle) -> None:
    axes = {"batch": 2, "tokens": 9, "latent_frames": 3, "latent_height": 4, "latent_width": 6}

    def shapes(specs: tuple[TensorSpec, ...]) -> dict[str, tuple[int, ...]]:
        return {s.name: tuple(axis_length(axis, axes) for axis in s.shape) for s in specs}

    for name, graph in exported.manifest.graphs.items():
        inputs = {
            spec.name: Value(shapes(graph.inputs)[spec.name], CODES[spec.dtype])
            for spec in graph.inputs
        }
        values = infer(read_graph(exported, name), inputs)
        wanted = shapes(graph.outputs)
        assert {output: values[output].shape for output in wanted} == wanted


def test_interfaces_are_as_the_manifest_says(exported: Bundle) -> None:
    names = {FLOAT: "float32", FLOAT16: "float16", 7: "int64"}
    for name, model in graphs(exported):
        spec = exported.graph(name)
        for values, wanted in (
            (model.graph.input, spec.inputs),
            (model.graph.output, spec.outputs),
        ):
            got = [
                (v.name, names[v.type.tensor_type.elem_type], axes(v.type.tensor_type.shape))
                for v in values
            ]
            assert got == [(t.name, t.dtype, t.shape) for t in wanted]
    inner = "float16" if exported.precision == "fp16" else "float32"
    for graph in exported.manifest.graphs.values():
        for tensor in (*graph.inputs, *graph.outputs):
            if "cache" in tensor.name:
                assert tensor.dtype == inner
            elif tensor.dtype != "int64":
                assert tensor.dtype == "float32"


def axes(shape: Any) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in shape.dim)


def test_attention_and_rope_are_rewritten(exported: Bundle) -> None:
    layers = exported.manifest.denoiser.layers
    attentions = {"denoiser": 2 * layers, "text_encoder": 0}  # the VAE has one
    for name, model in graphs(exported):
        count = Counter(node.op_type for node in model.graph.node)
        assert count["Attention"] == attentions.get(name, 1)
        assert count["ScatterND"] == count["GatherND"] == 0
        assert count["Softmax"] == (2 if name == "text_encoder" else 0)  # one a layer, written out
        if name == "denoiser":
            # queries and keys of self-attention, and the modulation; the output's, and two tables
            assert count["Split"] == 3 * layers + 3
            # queries, keys, values and results of attention; patches to channels last, and back
            assert count["Transpose"] == 8 * layers + 2


def test_graphs_carry_nothing_else(exported: Bundle) -> None:
    for _, model in graphs(exported):
        assert len(model.graph.value_info) == 0  # ORT's quantiser takes traced shapes for wrong
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 23)]
        assert model.producer_name == "mutoscope"
        assert not model.metadata_props
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        text = model.SerializeToString()
        for trace in (b"site-packages", b"/tmp", str(Path(mutoscope.__file__).parent).encode()):
            assert trace not in text


def test_no_weight_is_transposed_at_run_time(exported: Bundle) -> None:
    for _, model in graphs(exported):
        weights = {tensor.name for tensor in model.graph.initializer}
        weights |= {n.output[0] for n in model.graph.node if set(n.input) <= weights}
        for node in model.graph.node:
            assert not (node.op_type == "Transpose" and node.input[0] in weights)


def test_two_calls_share_their_weights(exported: Bundle) -> None:
    manifest = exported.manifest
    for model in ("vae_decoder", "vae_encoder"):
        calls = [manifest.graphs[f"{model}_{call}"] for call in ("first", "next")]
        assert {call.data for call in calls} == {(f"{model}.data",)}
        used = {
            (entry["offset"], entry["length"])
            for call in calls
            for tensor in onnx.load(
                exported.file(call.file), load_external_data=False
            ).graph.initializer
            if (entry := {e.key: e.value for e in tensor.external_data})
        }
        stored = sum(int(length) for _, length in used)
        size = manifest.files[f"{model}.data"].size
        assert stored <= size <= stored + 64 * len(used)  # nothing twice, but for alignment


def test_what_half_precision_holds_exactly_takes_half_the_disk(kind: str, exported: Bundle) -> None:
    """The four-level checkpoint is bfloat16; the patchified one is fp32 to the last bit."""
    wanted = {
        "patchified fp32": {FLOAT},
        "four levels fp32": {FLOAT16, BFLOAT16},
        "residual fp16": {FLOAT, FLOAT16},
    }
    for _, model in graphs(exported):
        types = {
            tensor.data_type
            for tensor in model.graph.initializer
            if tensor.external_data and tensor.name.startswith("model.")
        }
        assert types <= wanted[kind]


def test_what_has_to_be_precise_is_fp32(exported: Bundle) -> None:
    precise = {"LayerNormalization", "RMSNormalization", "ReduceL2", "Sin", "Cos"}
    for _, model in graphs(exported):
        inferred = onnx.shape_inference.infer_shapes(model)
        kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
        for node in model.graph.node:
            if node.op_type in precise:
                assert kinds.get(node.output[0], FLOAT) == FLOAT  # the graph's outputs are
            if node.op_type == "Attention":
                attributes = {a.name: a.i for a in node.attribute}
                assert attributes["softmax_precision"] == FLOAT
        if exported.precision == "fp16":
            products = [n.output[0] for n in model.graph.node if n.op_type in {"MatMul", "Conv"}]
            halves = [kinds.get(name, FLOAT16) == FLOAT16 for name in products]
            assert sum(halves) >= len(halves) / 2


def test_tensorrt_builds_every_graph(kind: str, exported: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    store, sizes = EngineStore(tmp_path), [LatentSize(2, 4, 6), LatentSize(1, 4, 4)]
    for name in exported.manifest.graphs:
        spec = describe(TENSORRT_RTX, exported, name, sizes, ["sm_80", "sm_121"])
        record = build_engine(store, exported, spec, None, lambda *_: None).record
        assert record.weights_mb > 0
        if kind.endswith("fp16"):
            assert record.layers["fp16"] >= 5
        else:
            assert "fp16" not in record.layers


IN_FP16 = {
    # fp16 layers at least, in all and for one in fp32; products in fp16 at least, and all in fp32
    "text_encoder": (15, 0.6, 9, 6),
    "denoiser": (80, 2, 32, 0),
    "vae_decoder_first": (40, 2, 20, 0),
    "vae_decoder_next": (40, 2, 20, 0),
}
"""Of the engines of the embedded model. UMT5's attention, two products in each of its three layers,
is fp32 in a graph in fp16."""
PRODUCT = re.compile(r"LayerType: (?:gemm|correlation), Inputs: \[ \{.*?Datatype: (\w+)")


@pytest.fixture(scope="module")
def embedded_in_fp16(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    folder = tmp_path_factory.mktemp("fp16") / "bundle"
    export_bundle(embedded_checkpoint(), folder, Options(precision="fp16", graphs=tuple(IN_FP16)))
    return Bundle.open(folder)


@pytest.mark.parametrize("name", IN_FP16)
def test_the_embedded_model_in_fp16_is_engines_in_fp16(
    name: str, embedded_in_fp16: Bundle, tmp_path: Path
) -> None:
    sizes = [LatentSize.default(embedded_in_fp16.manifest)]
    spec = describe(TENSORRT_RTX, embedded_in_fp16, name, sizes, ["sm_86", "sm_89", "sm_120"])
    engine = build_engine(EngineStore(tmp_path), embedded_in_fp16, spec, None, lambda *_: None)
    record, listing = engine.record, (engine.path / "layers.txt").read_text()
    least, share, products, exact = IN_FP16[name]
    assert record.layers["fp16"] >= least
    assert record.layers["fp16"] >= share * record.layers["fp32"]
    kinds = Counter(PRODUCT.findall(listing))
    assert kinds.keys() <= {"Half", "Float"}
    assert kinds["Half"] >= products
    assert kinds["Float"] == exact
    stored = weights_of(embedded_in_fp16, name) / 1e6
    assert 0.9 * stored <= record.weights_mb <= 1.25 * stored  # in fp32 it were twice as much


def export_denoiser(checkpoint: Path, target: Path, *more: str) -> int:
    """Run the command for the quickest graph; gives the exit code."""
    arguments = ["export", str(checkpoint), str(target), "--graphs", "denoiser"]
    arguments += [f"--default={change}" for change in DEFAULTS]
    try:
        cli.main([*arguments, *more])
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


def test_verify_finds_what_is_wrong_and_leaves_nothing(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """RoPE on halves of weights that were left in pairs is no RoPE that the model knows."""
    monkeypatch.setattr(wan.denoiser, "rotary_halves", lambda name, weight, head_dim: weight)
    assert export_denoiser(tiny_checkpoint, tmp_path / "bundle", "--verify") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("FAILED") == 3
    assert "3 of 3 checks failed, no bundle was written: denoiser 1 x 1 x 4 x 6" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_what_it_made(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bundle"
    options = "--json", "--name", "tiny", "--max-sequence-length", "40"
    assert export_denoiser(tiny_checkpoint, target, *options) == 0
    assert Bundle.open(target).manifest.text.max_tokens == 40
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert facts.pop("seconds") > 0
    assert facts.pop("megabytes") == round(
        sum(f.stat().st_size for f in target.iterdir() if f.name != "bundle.json") / 1e6, 1
    )
    assert facts == {
        "bundle": str(target), "name": "tiny", "family": "wan", "precision": "fp32",
        "graphs": ["denoiser"], "checks": [],
    }  # fmt: skip
    assert printed.err.splitlines() == ["exporting denoiser …", "fitting the latent preview …"]
    assert sorted(path.name for path in target.iterdir()) == [
        "bundle.json", "denoiser.data", "denoiser.onnx", "tokenizer.json",
    ]  # fmt: skip

    assert export_denoiser(tiny_checkpoint, target) == 2
    assert capsys.readouterr().err == (
        f"mutoscope: error: {target} exists; choose another place or pass --overwrite\n"
    )


def test_until_the_end_nothing_can_be_opened(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed export leaves behind has no manifest."""
    seen: list[list[str]] = []

    def stop(*_: object) -> None:
        (folder,) = tmp_path.iterdir()
        seen.append(sorted(path.name for path in folder.iterdir()))
        with pytest.raises(BundleError, match=r"bundle.json is missing"):
            Bundle.open(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "write_graphs", lambda *_: None)
    monkeypatch.setattr(exporter, "write_manifest", stop)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", Options(defaults=DEFAULTS))
    assert seen == [["tokenizer.json"]]
    assert list(tmp_path.iterdir()) == []


def test_the_preview_finds_an_affine_map() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 16, generator=generator)
    matrix, bias = torch.randn(3, 16, generator=generator), torch.randn(3, generator=generator)
    found = preview.solve(latents, latents @ matrix.T + bias)
    np.testing.assert_allclose(found.matrix, matrix, atol=6e-5)  # rounded to four decimals
    np.testing.assert_allclose(found.bias, bias, atol=6e-5)


@pytest.mark.parametrize(
    ("folder", "name", "revision"),
    [
        ("wan-1.3b", "wan-1.3b", None),
        (
            "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers/snapshots/0fad780a534b",
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            "0fad780a534b",
        ),
    ],
)
def test_the_source_is_read_off_the_cache_of_the_hub(
    tmp_path: Path, folder: str, name: str, revision: str | None
) -> None:
    source = exporter.source(Checkpoint(tmp_path / folder, {}), "Apache-2.0")
    assert source == Source(name=name, revision=revision, license="Apache-2.0")
