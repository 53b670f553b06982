"""Checkpoints that are damaged or not supported: one line, before any work, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.lora import own_loras
from mutoscope.engine.manifest import PresetSpec
from mutoscope.errors import CheckpointError, UserError
from mutoscope.export import Options, export_bundle
from mutoscope.export.checkpoint import Checkpoint
from mutoscope.export.weights import cast, check_weights
from safetensors.numpy import save_file

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
pytest.importorskip("diffusers", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")

pytestmark = pytest.mark.parity

SMALL = ["width=32", "height=32", "frames=5"]


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "wan"))


def refusal(folder: Path, **options: Any) -> str:
    target = folder.parent / "bundle"
    report: list[str] = []
    with pytest.raises(UserError) as error:
        export_bundle(folder, target, Options(**options), report.append)
    assert report == []
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return str(error.value)


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


SECOND = {"transformer_2": ["diffusers", "WanTransformer3DModel"]}


def test_a_boundary_without_a_second_transformer(folder: Path) -> None:
    change(folder / "model_index.json", boundary_ratio=0.9)
    assert refusal(folder) == (
        f"{folder} has a boundary_ratio and no transformer_2; download the checkpoint again"
    )


def test_a_second_transformer_that_is_not_there(folder: Path) -> None:
    change(folder / "model_index.json", boundary_ratio=0.9, **SECOND)
    assert refusal(folder) == (
        f"{folder} lacks its transformer_2 folder; download the checkpoint again"
    )


@pytest.mark.parametrize("boundary", [None, 1.5, "half"])
def test_two_experts_need_a_boundary(folder: Path, boundary: object) -> None:
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    change(folder / "model_index.json", boundary_ratio=boundary, **SECOND)
    assert refusal(folder) == (
        f"{folder} has a transformer_2, and {boundary!r} for its boundary_ratio; "
        "it must lie between 0 and 1"
    )


def test_experts_of_two_builds(folder: Path) -> None:
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    change(folder / "model_index.json", boundary_ratio=0.9, **SECOND)
    change(folder / "transformer_2" / "config.json", num_layers=1)
    assert refusal(folder) == (
        f"{folder}: the transformers differ in num_layers: 2, 1; "
        "two experts of one build are supported"
    )


def test_the_defaults_of_two_experts_are_their_own(folder: Path) -> None:
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    change(folder / "model_index.json", boundary_ratio=0.875, **SECOND)
    assert refusal(folder) == (
        "the default of width, 1280, is more than the 512 that this checkpoint takes; "
        "change it with --default width=N"
    )


ATTENDS = {"image_dim": 1280, "added_kv_proj_dim": 24}


@pytest.mark.parametrize(
    ("pipeline", "config"),
    [
        ("WanPipeline", ATTENDS),
        ("WanImageToVideoPipeline", {"image_dim": 1280}),
        ("WanImageToVideoPipeline", {"added_kv_proj_dim": 32}),
    ],
)
def test_half_of_what_attends_to_an_image(
    folder: Path, pipeline: str, config: dict[str, int]
) -> None:
    change(folder / "model_index.json", _class_name=pipeline)
    change(folder / "transformer" / "config.json", **config)
    assert refusal(folder) == (
        f"{folder} has a transformer that attends to an image (image_dim, added_kv_proj_dim); "
        "it needs WanImageToVideoPipeline and 24 for the latter"
    )


def test_a_missing_image_encoder(folder: Path) -> None:
    change(folder / "model_index.json", _class_name="WanImageToVideoPipeline")
    change(folder / "transformer" / "config.json", **ATTENDS)
    assert refusal(folder) == (
        f"{folder} lacks its image_encoder folder; download the checkpoint again"
    )


def test_clips_between_two_images_are_named(folder: Path) -> None:
    change(folder / "transformer" / "config.json", pos_embed_seq_len=514)
    assert refusal(folder) == (
        f"{folder} makes clips between two images (pos_embed_seq_len), which is not supported yet; "
        "those that begin with one are"
    )


def test_another_text_encoder(folder: Path) -> None:
    change(folder / "model_index.json", text_encoder=["transformers", "CLIPTextModel"])
    assert refusal(folder) == (
        f"{folder} has CLIPTextModel for its text_encoder; UMT5EncoderModel is needed"
    )


@pytest.mark.parametrize("name", ["tokenizer", "scheduler"])
def test_a_missing_part_without_weights(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    assert refusal(folder) == f"{folder} lacks its {name} folder; download the checkpoint again"


def test_a_file_cut_short_is_named(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(folder, defaults=SMALL)
    assert message.startswith(f"{path} is damaged or cut short (")
    assert message.endswith("); download the checkpoint again")


def test_a_missing_weight_is_named(folder: Path) -> None:
    rewrite(folder / "transformer", lambda weights: weights.pop("proj_out.bias"))
    assert refusal(folder, defaults=SMALL) == (
        f"{folder}/transformer lacks the weight 'proj_out.bias'; download the checkpoint again"
    )


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    change(folder / "transformer" / "config.json", ffn_dim=40)
    assert refusal(folder, defaults=SMALL) == (
        f"{folder}/transformer has 'blocks.0.ffn.net.0.proj.weight' of shape (32, 24), "
        "config.json says (40, 24); download the checkpoint again"
    )


def test_a_configuration_that_makes_no_model(folder: Path) -> None:
    change(folder / "vae" / "config.json", num_res_blocks="many")
    message = refusal(folder, defaults=SMALL)
    assert message.startswith(f"{folder}/vae/config.json does not describe a model (")


def test_text_of_another_width(folder: Path) -> None:
    change(folder / "text_encoder" / "config.json", d_model=32)
    assert refusal(folder) == (
        f"{folder}: the transformer wants text of 24 channels, the text encoder gives 32"
    )


def test_latents_of_another_number(folder: Path) -> None:
    change(folder / "transformer" / "config.json", in_channels=36)
    assert refusal(folder) == (
        f"{folder}: the transformer takes and gives (36, 16) channels; "
        "WanPipeline with this VAE wants (16, 16)"
    )


def test_an_image_takes_channels(folder: Path) -> None:
    change(folder / "model_index.json", _class_name="WanImageToVideoPipeline")
    assert refusal(folder) == (
        f"{folder}: the transformer takes and gives (16, 16) channels; "
        "WanImageToVideoPipeline with this VAE wants (36, 16)"
    )


def test_patches_that_diffusers_has_no_timesteps_for(folder: Path) -> None:
    change(folder / "model_index.json", expand_timesteps=True)
    change(folder / "transformer" / "config.json", patch_size=[1, 1, 2])
    assert refusal(folder) == (
        f"{folder} has patches of [1, 1, 2]; with a timestep for each token (expand_timesteps) "
        "they are [1, 2, 2] in diffusers"
    )


def test_the_defaults_of_ti2v_are_its_own(folder: Path) -> None:
    change(folder / "model_index.json", expand_timesteps=True)
    assert refusal(folder) == (
        "the default of width, 1280, is more than the 512 that this checkpoint takes; "
        "change it with --default width=N"
    )


def test_a_compression_that_its_levels_do_not_make(folder: Path) -> None:
    change(folder / "vae" / "config.json", scale_factor_spatial=16)
    assert refusal(folder) == (
        f"{folder}/vae/config.json says scale_factor_spatial 16, its levels and patches make 8; "
        "correct it"
    )


def test_another_temporal_compression(folder: Path) -> None:
    change(folder / "vae" / "config.json", temperal_downsample=[False, True])
    assert refusal(folder) == (
        f"{folder}/vae/config.json: 2 frames a latent frame (scale_factor_temporal 4); "
        "Wan's pipeline wants 4"
    )


def test_an_unknown_graph_names_the_nearest(folder: Path) -> None:
    message = refusal(folder, graphs=["denoise"], defaults=SMALL)
    assert message == (
        "unknown graph 'denoise'; did you mean 'denoiser'? (known: denoiser, text_encoder, "
        "vae_decoder_first, vae_decoder_next, vae_encoder_first, vae_encoder_next)"
    )


def test_a_default_that_the_model_cannot_serve(folder: Path) -> None:
    assert refusal(folder, defaults=["width=40"]) == (
        "the default of width, 40, is no multiple of 16; change it with --default width=N"
    )


@pytest.mark.parametrize("tokens", [0, 513])
def test_prompts_of_no_length_that_the_model_takes(folder: Path, tokens: int) -> None:
    assert refusal(folder, defaults=SMALL, max_sequence_length=tokens) == (
        f"a prompt of {tokens} tokens is not one of 1 to 512, which this family takes"
    )


def test_wans_own_defaults_may_be_too_large(folder: Path) -> None:
    assert refusal(folder) == (
        "the default of width, 832, is more than the 512 that this checkpoint takes; "
        "change it with --default width=N"
    )


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_weights_beyond_half_precision_are_named(folder: Path, value: float) -> None:
    graph = wan.denoiser_graph(Checkpoint.open(folder), "fp16")
    weight = torch.tensor([1.0, value])
    with pytest.raises(CheckpointError) as error:
        cast(graph, "proj_out.bias", weight, torch.float16)
    assert str(error.value) == (
        f"{folder}/transformer has values in 'proj_out.bias' that are beyond fp16; "
        "export in fp32, and if it is, download the checkpoint again"
    )


def test_either_name_of_the_shared_embedding_does(folder: Path) -> None:
    """Both are published; a checkpoint has the one or the other."""
    for old, new in (
        ("shared.weight", "encoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
    ):
        rewrite(folder / "text_encoder", lambda w, old=old, new=new: w.update({new: w.pop(old)}))
        check_weights(wan.text_encoder_graph(Checkpoint.open(folder), "fp32"))
    rewrite(folder / "text_encoder", lambda weights: weights.pop("shared.weight"))
    with pytest.raises(CheckpointError, match="lacks the weight 'shared.weight'"):
        check_weights(wan.text_encoder_graph(Checkpoint.open(folder), "fp32"))


def rewrite(component: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    (path,) = component.glob("*.safetensors")
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def test_loras_go_along_if_they_are_for_the_model(folder: Path) -> None:
    target, mine = folder.parent / "bundle", folder.parent / "mine.safetensors"
    theirs = Path(mutoscope.__file__).parent / "models" / "mini-wan" / "outlines.safetensors"
    small: dict[str, Any] = {"graphs": ["vae_decoder_first"], "defaults": SMALL}
    with pytest.raises(UserError, match="it is a LoRA for another model"):
        export_bundle(folder, target, Options(**small, loras=[theirs]))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    width = width_of(folder)
    save_file({"transformer.blocks.0.attn1.to_q.diff_b": np.zeros(width, np.float32)}, mine)
    presets = ["few:lora=mine:0.5,steps=4", "one:steps=1"]
    manifest = export_bundle(folder, target, Options(**small, loras=[mine], presets=presets))
    assert manifest.presets == {
        "few": PresetSpec(loras={"mine.safetensors": 0.5}, steps=4),
        "one": PresetSpec(steps=1),
    }
    assert own_loras(Bundle.open(target)) == {"mine": target / "mine.safetensors"}
    assert (target / "mine.safetensors").read_bytes() == mine.read_bytes()


def width_of(folder: Path) -> int:
    """The denoiser's width."""
    config = json.loads((folder / "transformer" / "config.json").read_text())
    return int(config["num_attention_heads"] * config["attention_head_dim"])
