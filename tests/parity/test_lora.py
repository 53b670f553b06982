"""LoRAs on exported bundles against diffusers' own loading of the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.lora import open_loras
from mutoscope.errors import UserError
from mutoscope.export import Options, export_bundle

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
pytest.importorskip("peft", reason="parity tests need the export extra")
safetensors = pytest.importorskip("safetensors.torch", reason="parity tests need the export extra")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own
]
BOUNDS = {"fp32": 2e-6, "fp16": 2e-3}
"""Relative errors: the same sums in another order; some roundings to fp16, of 5e-4 each."""

RANK, HIDDEN, FFN, LAYERS = 4, 24, 32, 2
ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
BLOCK = {
    **{f"self_attn.{theirs}": f"attn1.{ours}" for theirs, ours in ATTENTION.items()},
    **{f"cross_attn.{theirs}": f"attn2.{ours}" for theirs, ours in ATTENTION.items()},
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
BLOCKS = {
    f"blocks.{i}.{theirs}": f"blocks.{i}.{ours}"
    for i in range(LAYERS)
    for theirs, ours in BLOCK.items()
}
ELSEWHERE = {
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "head.head": "proj_out",
}
"""The authors' names of modules, and diffusers'."""

Tensors = dict[str, Any]


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(
    precision: str, tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path]
) -> Path:
    """For fp16 one whose biases are all zero: equal weights, of which a LoRA changes but one."""
    folder = make_checkpoint(tmp_path_factory.mktemp("lora") / "checkpoint")
    if precision == "fp16":
        path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        tensors = safetensors.load_file(path)
        zeroed = {k: 0 * v if k.endswith(".bias") else v for k, v in tensors.items()}
        safetensors.save_file(zeroed, path)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, precision: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("lora") / "bundle"
    small = ["width=32", "height=32", "frames=5"]
    options = Options(precision=precision, graphs=["denoiser"], defaults=small)
    export_bundle(checkpoint, target, options)
    return Bundle.open(target)


@pytest.fixture
def reference(checkpoint: Path) -> Any:
    """diffusers' pipeline with nothing but the denoiser."""
    model = diffusers.WanTransformer3DModel.from_pretrained(checkpoint / "transformer").eval()
    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae", "scheduler"))
    return diffusers.WanPipeline(transformer=model, **parts)


def low_rank(model: Any, modules: dict[str, str], seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Random down and up matrices of modules."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for theirs, ours in modules.items():
        out, into = model.get_submodule(ours).weight.shape
        down = torch.randn(RANK, into, generator=generator) / into**0.5
        found[theirs] = down, 0.5 * torch.randn(out, RANK, generator=generator)
    return found


def diffusers_style(model: Any) -> tuple[Tensors, None]:
    """As the recipe of the example writes it: half precision, no alpha."""
    ours = {name: name for name in (*BLOCKS.values(), *ELSEWHERE.values())}
    found = low_rank(model, ours)
    return {
        f"transformer.{name}.lora_{part}.weight": value.half()
        for name, pair in found.items()
        for part, value in zip("AB", pair, strict=True)
    }, None


def peft_style(model: Any) -> tuple[Tensors, dict[str, str]]:
    """As diffusers' trainers write it: alpha in the metadata, another for some modules."""
    tensors, _ = diffusers_style(model)
    config = {
        "r": RANK,
        "lora_alpha": 2,
        "alpha_pattern": {"blocks.1.attn1.to_q": 9, "to_v": 1},
        "target_modules": [*BLOCKS.values(), *ELSEWHERE.values()],
        "use_rslora": True,
    }
    whole = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    return tensors, {"format": "pt", "lora_adapter_metadata": whole}


def authors_style(model: Any) -> tuple[Tensors, None]:
    """bfloat16, alpha, differences of biases, and all the modules that diffusers converts."""
    tensors: Tensors = {}
    for name, (down, up) in low_rank(model, {**BLOCKS, **ELSEWHERE}, 1).items():
        key = f"diffusion_model.{name}"
        tensors[f"{key}.lora_down.weight"] = down.bfloat16()
        tensors[f"{key}.lora_up.weight"] = up.bfloat16()
        if name in BLOCKS:
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
        tensors[f"{key}.diff_b"] = 0.1 * up[:, 0].clone()
    return tensors, None


def authors_peft_style(model: Any) -> tuple[Tensors, None]:
    """Some modules only, lora_A and lora_B, no alpha."""
    some = {name: ours for name, ours in BLOCKS.items() if "attn" in name}
    return {
        f"diffusion_model.{name}.lora_{part}.weight": value
        for name, pair in low_rank(model, some, 2).items()
        for part, value in zip("AB", pair, strict=True)
    }, None


def kohya_style(model: Any) -> tuple[Tensors, None]:
    """Underscores for dots, and an alpha everywhere."""
    tensors: Tensors = {}
    for name, (down, up) in low_rank(model, BLOCKS, 3).items():
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"] = down
        tensors[f"{key}.lora_up.weight"] = up
        tensors[f"{key}.alpha"] = torch.tensor(3.0)
    return tensors, None


STYLES = [diffusers_style, peft_style, authors_style, authors_peft_style, kohya_style]


def write(folder: Path, name: str, model: Any, style: Callable[..., Any]) -> Path:
    tensors, metadata = style(model)
    path = folder / f"{name}.safetensors"
    safetensors.save_file(tensors, path, metadata=metadata)
    return path


def inputs() -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 16, 3, 4, 6, generator=generator),
        torch.tensor([17.0, 830.0]),
        torch.randn(2, 9, HIDDEN, generator=generator),
    )


def ours(bundle: Bundle, scales: dict[Path, float]) -> Any:
    names = ("hidden_states", "timestep", "encoder_hidden_states")
    feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs(), strict=True)}
    options = EngineOptions(threads=1, loras=open_loras(scales))
    with open_graph(bundle, "denoiser", options=options) as session:
        return torch.from_numpy(session.run(feeds)["sample"])


@torch.no_grad()
def theirs(pipe: Any) -> Any:
    return pipe.transformer(*inputs(), return_dict=False)[0]


def relative_error(got: Any, wanted: Any) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_one_lora(
    exported: Bundle, reference: Any, precision: str, tmp_path: Path, style: Callable[..., Any]
) -> None:
    path = write(tmp_path, "style", reference.transformer, style)
    plain = theirs(reference)
    reference.load_lora_weights(tmp_path, weight_name=path.name, adapter_name="style")
    reference.set_adapters(["style"], [0.7])
    wanted = theirs(reference)
    assert relative_error(ours(exported, {path: 0.7}), wanted) <= BOUNDS[precision]
    assert relative_error(plain, wanted) >= 0.05


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")  # of a first LoRA
def test_two_loras_fused(exported: Bundle, reference: Any, precision: str, tmp_path: Path) -> None:
    scales = {}
    for style, scale in ((diffusers_style, 0.6), (kohya_style, -0.4)):
        path = write(tmp_path, style.__name__, reference.transformer, style)
        reference.load_lora_weights(tmp_path, weight_name=path.name, adapter_name=style.__name__)
        scales[path] = scale
    reference.set_adapters([path.stem for path in scales], list(scales.values()))
    reference.fuse_lora()
    wanted = theirs(reference)
    assert relative_error(ours(exported, scales), wanted) <= BOUNDS[precision]
    one = dict(list(scales.items())[:1])
    assert relative_error(ours(exported, one), wanted) >= 0.05


def test_every_weight_has_its_own_initializer(
    exported: Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    """Equal ones too: a LoRA for one bias leaves the others as they are."""
    from mutoscope.engine.lora import merge

    names = safetensors.load_file(
        checkpoint / "transformer" / "diffusion_pytorch_model.safetensors"
    )
    path = tmp_path / "all.safetensors"
    differences = {
        f"transformer.{name.removesuffix('.weight').removesuffix('.bias')}"
        f"{'.diff_b' if name.endswith('.bias') else '.diff'}": torch.zeros_like(tensor)
        for name, tensor in names.items()
    }
    safetensors.save_file(differences, path)
    assert len(merge(exported, "denoiser", open_loras({path: 1})).weights) == len(names)


def test_too_strong_for_fp16(exported: Bundle, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "strong.safetensors"
    safetensors.save_file({"transformer.proj_out.diff_b": torch.ones(64)}, path)
    if precision == "fp16":
        with pytest.raises(UserError) as caught:
            ours(exported, {path: 1e5})
        assert str(caught.value) == (
            f"{path} (100000): 'proj_out.bias' becomes too large a number; scale it down"
        )
    else:
        assert ours(exported, {path: 1e5}).isfinite().all()
