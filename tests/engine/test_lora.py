"""LoRAs on the embedded bundle: which weights change and by how much, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle, EngineOptions, Sessions, open_graph
from mutoscope.engine.lora import check_loras, merge, open_loras
from mutoscope.engine.manifest import read_manifest
from mutoscope.engine.onnx_file import OnnxFile
from mutoscope.engine.open import find_backend
from mutoscope.errors import BundleError, UserError
from safetensors.numpy import load_file

from .conftest import BFloat16, to_bytes

ROOT = Path(mutoscope.__file__).parent
EMBEDDED = ROOT / "models" / "mini-wan"
CHECKPOINT = ROOT / "tests" / "data" / "mini-wan" / "transformer"
DENOISER = read_manifest(EMBEDDED)[0].denoiser
WIDTH = DENOISER.hidden_size
RANK = 3
Tensors = dict[str, Any]
Write = Callable[..., Path]

MODULES = {
    # diffusers' name: the authors', and what the initializer of the weight is called
    "blocks.1.attn1.to_q": ("blocks.1.self_attn.q", ".transposed.half"),
    "blocks.1.attn1.to_out.0": ("blocks.1.self_attn.o", ".transposed.half"),
    "blocks.5.attn2.to_k": ("blocks.5.cross_attn.k", ".transposed.half"),
    "blocks.0.ffn.net.0.proj": ("blocks.0.ffn.0", ".transposed.half"),
    "blocks.0.ffn.net.2": ("blocks.0.ffn.2", ".transposed.half"),
    "condition_embedder.time_embedder.linear_2": ("time_embedding.2", ".transposed.half"),
    "condition_embedder.time_proj": ("time_projection.1", ".transposed.half"),
    "condition_embedder.text_embedder.linear_1": ("text_embedding.0", ".transposed.half"),
    "patch_embedding": ("patch_embedding", ".half"),
    "proj_out": ("head.head", ".transposed.half"),
}
STYLES = ["transformer.", "diffusion_model.", "lora_unet_"]


@pytest.fixture(scope="module")
def embedded() -> Bundle:
    return Bundle.open(EMBEDDED)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """The checkpoint's, float32."""
    found = load_file(CHECKPOINT / "diffusion_pytorch_model.safetensors")
    return {name: array.astype(np.float32) for name, array in found.items()}


def spelling(style: str, module: str) -> str:
    if style == "transformer.":
        return style + module
    theirs = MODULES[module][0]
    return style + (theirs.replace(".", "_") if style == "lora_unet_" else theirs)


def factors(weight: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Up and down of a low-rank change of about the weight's size."""
    rng = np.random.default_rng(seed)
    out, *rest = weight.shape
    up = rng.standard_normal((out, RANK, *[1] * len(rest[1:])), np.float32)
    return up, 0.1 * rng.standard_normal((RANK, *rest), np.float32)


def product(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    return np.tensordot(up.reshape(len(up), -1), down, 1)


def as_exported(name: str, weight: np.ndarray) -> np.ndarray:
    """A weight as the graph holds it: even rows of each rotary head first, transposed."""
    if ".attn1.to_q" in name or ".attn1.to_k" in name or ".attn1.norm_" in name:
        heads = weight.reshape(DENOISER.heads, -1, *weight.shape[1:])
        weight = np.concatenate([heads[:, ::2], heads[:, 1::2]], 1).reshape(weight.shape)
    return weight.T if name.endswith(".transposed.half") else weight


def merged(bundle: Bundle, path: Path, scale: float = 1.0) -> dict[str, np.ndarray]:
    return merge(bundle, "denoiser", open_loras({path: scale})).weights


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("module", MODULES)
def test_every_style_changes_the_weight_it_names(
    embedded: Bundle, weights: Tensors, write_lora: Write, style: str, module: str
) -> None:
    weight = weights[f"{module}.weight"]
    up, down = factors(weight)
    key, (a, b) = spelling(style, module), ("lora_A", "lora_B")
    if style == "lora_unet_":
        a, b = "lora_down", "lora_up"
    tensors = {f"{key}.{a}.weight": down, f"{key}.{b}.weight": up, f"{key}.alpha": np.float32(6)}
    ((name, got),) = merged(embedded, write_lora(tensors), 0.5).items()
    assert name == f"model.{module}.weight{MODULES[module][1]}"
    wanted = as_exported(name, weight + 0.5 * 6 / RANK * product(up, down))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_without_alpha_the_product_is_added_as_it_is(
    embedded: Bundle, weights: Tensors, write_lora: Write
) -> None:
    up, down = factors(weights["proj_out.weight"])
    pair = {"transformer.proj_out.lora_A.weight": down, "transformer.proj_out.lora_B.weight": up}
    (got,) = merged(embedded, write_lora(pair)).values()
    wanted = (weights["proj_out.weight"] + product(up, down)).T
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "strength"),
    [
        ({"lora_alpha": 6}, 6 / RANK),
        ({"lora_alpha": 6, "use_rslora": True}, 6 / RANK**0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"to_q": 1, "proj_out": 12}}, 12 / RANK),
        ({"lora_alpha": 6, "alpha_pattern": {"^blocks.proj_out": 12}}, 6 / RANK),
    ],
)
def test_alpha_in_diffusers_metadata(
    embedded: Bundle,
    weights: Tensors,
    write_lora: Write,
    config: dict[str, Any],
    strength: float,
) -> None:
    up, down = factors(weights["proj_out.weight"])
    pair = {"transformer.proj_out.lora_A.weight": down, "transformer.proj_out.lora_B.weight": up}
    whole = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    (got,) = merged(embedded, write_lora(pair, {"lora_adapter_metadata": whole})).values()
    wanted = (weights["proj_out.weight"] + strength * product(up, down)).T
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "initializer", "parameter"),
    [
        ("diffusion_model.blocks.2.self_attn.q.diff_b", None, "blocks.2.attn1.to_q.bias"),
        ("diffusion_model.blocks.2.ffn.2.diff_b", None, "blocks.2.ffn.net.2.bias"),
        ("diffusion_model.blocks.2.self_attn.norm_k.diff", None, "blocks.2.attn1.norm_k.weight"),
        ("diffusion_model.blocks.2.norm3.diff", None, "blocks.2.norm2.weight"),
        (
            "diffusion_model.blocks.2.cross_attn.v.diff",
            "blocks.2.attn2.to_v.weight.transposed.half",
            "blocks.2.attn2.to_v.weight",
        ),
        (
            "diffusion_model.blocks.2.modulation.diff",
            "blocks.2.scale_shift_table.half",
            "blocks.2.scale_shift_table",
        ),
        ("diffusion_model.head.modulation.diff", "scale_shift_table.half", "scale_shift_table"),
        ("transformer.patch_embedding.diff_b", None, "patch_embedding.bias"),
    ],
)
def test_whole_differences(
    embedded: Bundle,
    weights: Tensors,
    write_lora: Write,
    key: str,
    initializer: str | None,
    parameter: str,
) -> None:
    delta = np.random.default_rng(1).standard_normal(weights[parameter].shape, np.float32)
    ((name, got),) = merged(embedded, write_lora({key: delta}), 2).items()
    assert name == f"model.{initializer or parameter}"
    wanted = as_exported(name, weights[parameter] + 2 * delta)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_lora_bias_is_scaled_by_alpha_and_diff_b_is_not(
    embedded: Bundle, weights: Tensors, write_lora: Write
) -> None:
    up, down = factors(weights["proj_out.weight"])
    key, ones = "transformer.proj_out", np.ones(64, np.float32)
    tensors = {
        f"{key}.lora_A.weight": down,
        f"{key}.lora_B.weight": up,
        f"{key}.alpha": np.int64(6),
        f"{key}.lora_B.bias": ones,
        f"{key}.diff_b": 10 * ones,
    }
    got = merged(embedded, write_lora(tensors), 0.5)["model.proj_out.bias"]
    wanted = weights["proj_out.bias"] + 0.5 * (6 / RANK) + 0.5 * 10
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, BFloat16])
def test_every_type_is_read(embedded: Bundle, write_lora: Write, kind: Any) -> None:
    values = np.array([1.5, -0.0078125, 2.0**-20, 240.0] * 16, np.float32)  # exact in all of them
    before = merged(embedded, write_lora({"transformer.proj_out.diff_b": 0 * values}))
    after = merged(embedded, write_lora({"transformer.proj_out.diff_b": kind(values)}))
    (old,), (new,) = before.values(), after.values()
    np.testing.assert_array_equal(new, old + values)


def test_two_add_up(embedded: Bundle, weights: Tensors, write_lora: Write) -> None:
    weight, paths, wanted = weights["proj_out.weight"], {}, weights["proj_out.weight"]
    for seed, scale in ((1, 0.5), (2, -2.0)):
        up, down = factors(weight, seed)
        key = spelling(STYLES[seed], "proj_out")
        pair = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        paths[write_lora(pair, name=f"style{seed}")] = scale
        wanted = wanted + scale * product(up, down)
    (got,) = merge(embedded, "denoiser", open_loras(paths)).weights.values()
    np.testing.assert_allclose(got, wanted.T, rtol=1e-5, atol=1e-5)


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "hidden_states": rng.standard_normal((1, 16, 1, 4, 6), np.float32),
        "timestep": np.array([[300]], np.float32),
        "encoder_hidden_states": rng.standard_normal((1, 5, 128), np.float32),
    }


def test_sessions_take_changed_loras(embedded: Bundle, write_lora: Write, weights: Tensors) -> None:
    """A scale of 0 is the model itself, bit for bit; a change of LoRAs is a change of sessions."""
    up, down = factors(weights["blocks.1.attn1.to_q.weight"])
    key, bias = "transformer.blocks.1.attn1.to_q", np.full(WIDTH, 0.1, np.float32)
    path = write_lora(
        {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.diff_b": bias}
    )
    with Sessions(embedded, "onnxruntime", EngineOptions(threads=1)) as sessions:
        plain = sessions("denoiser").run(feeds())["sample"]
        found = {}
        for scale in (0.0, 1.0):
            sessions.set_loras(open_loras({path: scale}))
            found[scale] = sessions("denoiser").run(feeds())["sample"]
        sessions.set_loras(())
        after = sessions("denoiser").run(feeds())["sample"]
    np.testing.assert_array_equal(found[0.0], plain)
    np.testing.assert_array_equal(after, plain)
    assert np.abs(np.asarray(found[1.0]) - plain).max() > 1e-3


def test_what_loras_do_not_change_stays_open(embedded: Bundle, write_lora: Write) -> None:
    path = write_lora({"transformer.proj_out.diff_b": np.zeros(64, np.float32)})
    with Sessions(embedded, "null", EngineOptions()) as sessions:
        opened = {name: sessions(name) for name in ("denoiser", "text_encoder")}
        sessions.set_loras(open_loras({path: 1}))
        assert sessions("text_encoder") is opened["text_encoder"]
        assert sessions("denoiser") is not opened["denoiser"]


DOWN, UP = np.zeros((RANK, WIDTH), np.float32), np.zeros((64, RANK), np.float32)
KEY = "transformer.proj_out"
PAIR = {f"{KEY}.lora_A.weight": DOWN, f"{KEY}.lora_B.weight": UP}
NAN = np.full((64, RANK), np.nan, np.float16)
REFUSED: dict[str, tuple[Tensors, str]] = {
    "nothing": ({}, "PATH has no tensors in it; it is no LoRA"),
    "another model": (
        {f"{KEY}.lora_A.weight": np.zeros((RANK, 1536), np.float32), f"{KEY}.lora_B.weight": UP},
        (
            "PATH is for another model: 'transformer.proj_out.lora_A.weight' has the shape "
            f"[3, 1536], here it would have to be [3, {WIDTH}]"
        ),
    ),
    "factors of two ranks": (
        {**PAIR, f"{KEY}.lora_B.weight": np.zeros((64, 4), np.float32)},
        (
            "PATH is for another model: 'transformer.proj_out.lora_B.weight' has the shape "
            "[64, 4], here it would have to be [64, 3]"
        ),
    ),
    "a bias of another length": (
        {f"{KEY}.diff_b": np.zeros(1, np.float32)},
        (
            "PATH is for another model: 'transformer.proj_out.diff_b' has the shape [1], "
            "here it would have to be [64]"
        ),
    ),
    "an unknown layer": (
        {
            f"transformer.blocks.{DENOISER.layers}.attn1.to_q.{part}": DOWN
            for part in ("diff", "diff_b")
        },
        (
            f"PATH changes 'transformer.blocks.{DENOISER.layers}.attn1.to_q', which this model "
            "lacks (nearest: 'transformer.blocks."
        ),
    ),
    "image-to-video": (
        {
            f"diffusion_model.blocks.{i}.cross_attn.k_img.lora_{part}.weight": DOWN
            for i in (0, 1)
            for part in ("down", "up")
        },
        (
            "PATH changes 'diffusion_model.blocks.0.cross_attn.k_img', which this model lacks "
            "(nearest: 'diffusion_model.blocks.0.cross_attn.k'), and 1 more; it is a LoRA "
            "for another model"
        ),
    ),
    "a bias that is not there": (
        {"transformer.blocks.0.attn1.norm_q.diff_b": np.zeros(WIDTH, np.float32)},
        "PATH changes 'transformer.blocks.0.attn1.norm_q', which this model lacks",
    ),
    "one half of a pair": (
        {f"{KEY}.lora_A.weight": DOWN},
        "PATH has only one half of the pair of 'transformer.proj_out'; download it again",
    ),
    "alpha alone": (
        {f"{KEY}.alpha": np.float32(1)},
        "PATH has only one half of the pair of 'transformer.proj_out'; download it again",
    ),
    "the same twice": (
        {**PAIR, f"{KEY}.lora_down.weight": DOWN},
        "PATH has two tensors for 'transformer.proj_out.lora_down.weight'",
    ),
    "rank 0": (
        {f"{KEY}.lora_A.weight": DOWN[:0], f"{KEY}.lora_B.weight": UP[:, :0]},
        "PATH: 'transformer.proj_out' has a rank of 0; download it again",
    ),
    "two alphas": (
        {**PAIR, f"{KEY}.alpha": np.zeros(2, np.float32)},
        "PATH: the alpha of 'transformer.proj_out' is not one number",
    ),
    "text encoder": (
        {"lora_te1_text_model_encoder.lora_down.weight": DOWN},
        "PATH changes the text encoder ('lora_te1_text_model_encoder.lora_down.weight'); only cha",
    ),
    "LoKr": (
        {"transformer.proj_out.lokr_w1": DOWN},
        "PATH has 'transformer.proj_out.lokr_w1', which no plain LoRA has (its keys end in lora_A.",
    ),
    "DoRA": (
        {**PAIR, f"{KEY}.dora_scale": UP},
        "PATH has 'transformer.proj_out.dora_scale', which no plain LoRA has",
    ),
    "NaN": (
        {**PAIR, f"{KEY}.lora_B.weight": NAN},
        "PATH: 'transformer.proj_out.lora_B.weight' has values that are no numbers; refused",
    ),
    "infinite in float32": (
        {**PAIR, f"{KEY}.lora_B.weight": np.full((64, RANK), 1e300)},
        "PATH: 'transformer.proj_out.lora_B.weight' has values that are no numbers; refused",
    ),
    "integers": (
        {**PAIR, f"{KEY}.lora_B.weight": UP.astype(np.int8)},
        "PATH: 'transformer.proj_out.lora_B.weight' is stored as I8, which is not supported (know",
    ),
}


@pytest.mark.parametrize("tensors", REFUSED.values(), ids=REFUSED)
def test_refused_with_a_reason(
    embedded: Bundle, write_lora: Write, tensors: tuple[Tensors, str]
) -> None:
    path = write_lora(tensors[0])
    with pytest.raises(UserError) as caught:
        check_loras(embedded, open_loras({path: 1}))
    assert str(caught.value).startswith(tensors[1].replace("PATH", str(path)))


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("no JSON", "PATH has damaged metadata (lora_adapter_metadata); download it again"),
        ("[1]", "PATH has damaged metadata (lora_adapter_metadata); download it again"),
        ("{}", "PATH has damaged metadata (lora_adapter_metadata); download it again"),
        (
            '{"transformer.lora_alpha": NaN}',
            "PATH has damaged metadata (lora_adapter_metadata); download it again",
        ),
        (
            '{"transformer.lora_alpha": 1, "transformer.use_dora": true}',
            "PATH is a DoRA, which cannot be applied; a plain LoRA can",
        ),
        (
            '{"transformer.lora_alpha": 1, "transformer.alpha_pattern": {"(a+)+$": 1}}',
            "PATH: alpha_pattern '(a+)+$' is no module's name",
        ),
    ],
)
def test_damaged_metadata(embedded: Bundle, write_lora: Write, metadata: str, told: str) -> None:
    path = write_lora(PAIR, {"lora_adapter_metadata": metadata})
    with pytest.raises(UserError) as caught:
        check_loras(embedded, open_loras({path: 1}))
    assert str(caught.value) == told.replace("PATH", str(path))


WHOLE = to_bytes(PAIR)
HEADER = len(WHOLE) - DOWN.nbytes - UP.nbytes
SHAPE = b"[3, %d]" % WIDTH


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        WHOLE[:5],
        WHOLE[: HEADER // 2],
        WHOLE[:-1],
        WHOLE + b"more",
        b"\xff" * 8 + WHOLE[8:],
        b"PK\x03\x04 a pickle in a zip archive",
        WHOLE.replace(SHAPE, b"[3, %d]" % (WIDTH + 1)),
        WHOLE.replace(SHAPE, b"[3,-%d]" % WIDTH),
        WHOLE.replace(b'"data_offsets": [0,', b'"data_offsets": [4,'),
    ],
    ids=["empty", "no length", "half a header", "cut short", "too long", "endless header", "pickle",
         "wrong shape", "negative shape", "overlap"],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "style.safetensors"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        open_loras({path: 1})
    assert str(caught.value).startswith(f"{path} is damaged or not in safetensors format (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.safetensors", "no LoRA at PATH: there is no such file"),
        ("", "no LoRA at PATH: it is no file"),
        ("x" * 999, "cannot read PATH: File name too long"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, told: str) -> None:
    path = tmp_path / name
    with pytest.raises(UserError) as caught:
        open_loras({path: 1})
    assert str(caught.value).startswith(told.replace("PATH", str(path)))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "1", None, True, 10**400])
def test_scales_are_numbers(scale: Any) -> None:
    with pytest.raises(UserError, match="the scale of style.safetensors must be a number, not "):
        open_loras({"style.safetensors": scale})


def test_too_strong(embedded: Bundle, write_lora: Write) -> None:
    path = write_lora({f"{KEY}.diff_b": np.full(64, 1e30, np.float32)})
    with pytest.raises(UserError) as caught:
        merged(embedded, path, 1e30)
    assert str(caught.value) == (
        f"{path} (1e+30): 'proj_out.bias' becomes too large a number; scale it down"
    )


def changed_bundle(folder: Path, **changes: Any) -> Path:
    """The embedded bundle, told otherwise of its denoiser."""
    shutil.copytree(EMBEDDED, folder)
    whole = json.loads((folder / "bundle.json").read_text())
    whole["graphs"]["denoiser"] |= changes
    for name in [name for name, value in changes.items() if value == "left out"]:
        del whole["graphs"]["denoiser"][name]
    (folder / "bundle.json").write_text(json.dumps(whole))
    return folder


def test_bundles_of_before_open_and_take_no_loras(tmp_path: Path, write_lora: Write) -> None:
    old = Bundle.open(changed_bundle(tmp_path / "old", lora="left out"))
    path = write_lora({f"{KEY}.diff_b": np.zeros(64, np.float32)})
    check_loras(old, ())
    with pytest.raises(UserError) as caught:
        check_loras(old, open_loras({path: 1}))
    assert str(caught.value) == (
        f"{old.path} does not say how LoRAs change its weights; export it again with this version"
    )


def test_quantized_bundles_take_no_loras(tmp_path: Path, write_lora: Write) -> None:
    bundle = Bundle.open(changed_bundle(tmp_path / "int8", precision="int8"))
    path = write_lora({f"{KEY}.diff_b": np.zeros(64, np.float32)})
    with pytest.raises(UserError, match=r"denoiser.onnx is int8: LoRAs can be added to fp32 and"):
        check_loras(bundle, open_loras({path: 1}))


def test_weights_outside_the_bundle_are_refused(tmp_path: Path, write_lora: Write) -> None:
    bundle = Bundle.open(changed_bundle(tmp_path / "odd", data=["vae_decoder.data"]))
    with pytest.raises(BundleError) as caught:
        merged(bundle, write_lora(PAIR))
    assert str(caught.value) == (
        f"{bundle.path / 'denoiser.onnx'}: 'model.proj_out.weight.transposed.half' has its values "
        "in no file of the bundle; refused"
    )


def test_heads_that_do_not_fit(tmp_path: Path, write_lora: Write) -> None:
    folder = changed_bundle(tmp_path / "odd")
    whole = json.loads((folder / "bundle.json").read_text())
    whole["denoiser"]["heads"] = 7
    (folder / "bundle.json").write_text(json.dumps(whole))
    delta = np.zeros(WIDTH, np.float32)
    told = f"tells of heads of {WIDTH // 7} channels, which do not divide {WIDTH}"
    with pytest.raises(BundleError, match=told):
        merged(Bundle.open(folder), write_lora({"transformer.blocks.0.attn1.to_q.diff_b": delta}))


def test_the_denoiser_may_be_named(embedded: Bundle, write_lora: Write) -> None:
    path = write_lora(PAIR)
    check_loras(embedded, open_loras({path: {"denoiser": 0.5}}))
    with pytest.raises(UserError) as caught:
        check_loras(embedded, open_loras({path: {"denoiser_2": 0.5}}))
    assert str(caught.value) == (
        f"{path}: unknown denoiser 'denoiser_2'; did you mean 'denoiser'? (known: denoiser)"
    )
    with pytest.raises(UserError, match=r"style.safetensors must be a number, not 'half'"):
        open_loras({path: {"denoiser": "half"}})  # type: ignore[dict-item]


def test_no_onnx_file(bundle: Bundle) -> None:
    with pytest.raises(BundleError) as caught:
        OnnxFile(bundle, "denoiser")
    assert str(caught.value) == (
        f"{bundle.path / 'denoiser.onnx'} is no ONNX file; export the bundle again"
    )


def test_a_backend_that_adds_none_says_so(
    embedded: Bundle, write_lora: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lora({f"{KEY}.diff_b": np.zeros(64, np.float32)})
    monkeypatch.delattr(find_backend("null"), "check_loras")
    with pytest.raises(UserError) as caught:
        open_graph(
            embedded, "denoiser", backend="null", options=EngineOptions(loras=open_loras({path: 1}))
        )
    assert str(caught.value) == "the backend 'null' cannot add LoRAs; use --backend onnxruntime"


def test_a_refused_change_leaves_the_loras_before(embedded: Bundle, write_lora: Write) -> None:
    good = write_lora({f"{KEY}.diff_b": np.zeros(64, np.float32)}, name="good")
    bad = write_lora({f"{KEY}.diff_b": np.zeros(9, np.float32)}, name="bad")
    with mutoscope.load(preset="full", loras={good: 0.5}) as pipe:
        with pytest.raises(UserError, match="bad.safetensors is for another model"):
            pipe.set_loras({bad: 1})
        assert [lora.scale for lora in pipe.sessions.options.loras] == [0.5]


def test_the_record_says_which(bundle_folder: Path, write_lora: Write) -> None:
    path = write_lora(PAIR)
    with mutoscope.load(bundle_folder, backend="null", loras={path: 0.8}) as pipe:
        record = pipe("a red circle").record
        pipe.set_loras({})
        assert pipe("a red circle").record.loras == []
    ((lora),) = open_loras({path: 0.8})
    wanted = [{"name": "style.safetensors", "sha256": lora.file.sha256, "scale": 0.8}]
    assert record.loras == record.provenance()["loras"] == record.as_dict()["loras"] == wanted
