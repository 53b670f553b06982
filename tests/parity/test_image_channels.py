"""An image as channels: tiny bundles of Wan 2.1's and 2.2's builds against diffusers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope import cli
from mutoscope.engine import Bundle
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import TENSORRT_RTX
from mutoscope.engine.lora import open_loras
from mutoscope.engine.lora.merge import merge
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import EngineStore
from mutoscope.errors import CheckpointError
from mutoscope.export import Options, export_bundle
from mutoscope.export.checkpoint import Checkpoint
from mutoscope.export.families.wan.check import check
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.image import cover
from mutoscope.runtime.pipeline import Pipeline
from mutoscope.runtime.video import probe

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")
safetensors = pytest.importorskip("safetensors.torch", reason="parity tests need the export extra")
wan = pytest.importorskip("mutoscope.export.families.wan.graphs")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
PROMPT = "a red circle moves to the right"
DEFAULTS = ["width=64", "height=32", "frames=5", "steps=2", "fps=8"]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
BOUND = 1e-4
"""Relative error of the latents: a few 1e-6 a prediction, and guidance and six steps add up."""
SIDE = 32
CLIP = {
    "hidden_size": 20,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_act": "gelu",
}
CHANNELS = {"in_channels": 36, "out_channels": 16}
KINDS: dict[str, dict[str, Any]] = {
    "Wan 2.1": {
        "transformer": {**CHANNELS, "image_dim": 20, "added_kv_proj_dim": 24},
        "image_encoder": CLIP,
    },
    "Wan 2.2 A14B": {"transformer": CHANNELS, "boundary_ratio": 0.9},
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(
    kind: str, tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path]
) -> Path:
    return make_checkpoint(
        tmp_path_factory.mktemp("i2v") / "checkpoint",
        scheduler=diffusers.UniPCMultistepScheduler(flow_shift=3.0, **FLOW),
        image=True,
        **KINDS[kind],
    )


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    target = checkpoint.parent / "bundle"
    export_bundle(checkpoint, target, Options(defaults=DEFAULTS, verify=True))
    return target


@pytest.fixture(scope="module")
def reference(kind: str, checkpoint: Path, processor: Any) -> Any:
    parts = {"image_processor": None} if "image_encoder" in KINDS[kind] else {}
    made = diffusers.WanImageToVideoPipeline.from_pretrained(checkpoint, **parts)
    if parts:
        made.image_processor = processor
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def processor() -> Any:
    """transformers' own, which needs Pillow."""
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    size = {"height": SIDE, "width": SIDE}
    return module.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)


def both(
    pipe: Pipeline, reference: Any, image: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Latents of the same request from the same noise: ours, then the reference's."""
    height, width, _ = image.shape
    given = {"frames": 9, "steps": 5, "guidance_scale": 4.0, "scheduler": "unipc", "shift": 3.0}
    given |= {"width": width, "height": height, **options}
    frames = (given["frames"] - 1) // 4 + 1
    latents = standard_normal(5, (1, 16, frames, height // 8, width // 8))
    stream = pipe.stream(PROMPT, image=image, latents=latents, **given)
    ours = [step.latents for step in stream][-1]
    reference.scheduler = (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=given["shift"])
        if given["scheduler"] == "euler"
        else diffusers.UniPCMultistepScheduler(flow_shift=given["shift"], **FLOW)
    )
    from PIL import Image

    theirs = reference(
        image=Image.fromarray(image),
        prompt=PROMPT,
        width=width,
        height=height,
        num_frames=given["frames"],
        num_inference_steps=given["steps"],
        guidance_scale=given["guidance_scale"],
        guidance_scale_2=given.get("guidance_scale_2"),
        latents=torch.from_numpy(latents),
        output_type="latent",
    )
    return ours, theirs.frames.numpy()


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    return float(np.linalg.norm(got.astype(float) - wanted) / np.linalg.norm(wanted))


def random_image(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "unipc"},
        {"scheduler": "euler"},
        {"guidance_scale": 1.0},
        {"frames": 1},
        {"frames": 13, "steps": 3},
    ],
    ids=["unipc", "euler", "no guidance", "one frame", "13 frames"],
)
def test_latents_are_the_references(
    pipe: Pipeline, reference: Any, options: dict[str, Any]
) -> None:
    """The middle square of this image has the encoder's size: nothing is resampled."""
    image = random_image(64, SIDE)
    assert relative_error(*both(pipe, reference, image, **options)) <= BOUND


@pytest.mark.parametrize("kind", ["Wan 2.2 A14B"], indirect=True)
def test_a_second_guidance_scale(pipe: Pipeline, reference: Any) -> None:
    image = random_image(48, 80)
    assert relative_error(*both(pipe, reference, image, guidance_scale_2=2.0)) <= BOUND


def test_the_image_matters(pipe: Pipeline, reference: Any) -> None:
    one, theirs = both(pipe, reference, random_image(64, SIDE))
    other, _ = both(pipe, reference, random_image(64, SIDE, seed=1))
    assert relative_error(one, theirs) <= BOUND
    assert relative_error(other, one) >= 100 * BOUND


def test_the_command_makes_a_clip(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    clip, image = tmp_path / "clip.mp4", tmp_path / "first.png"
    Image.fromarray(random_image(80, 40)).save(image)
    command = ["generate", PROMPT, "--bundle", str(bundle), "-o", str(clip)]
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    assert left.value.code == 2
    assert "--image" in capsys.readouterr().err
    cli.main([*command, "--image", str(image)])
    made = probe(clip)
    assert (made.width, made.height, made.frames) == (64, 32, 5)


def test_clips_input_is_nearly_pillows(processor: Any) -> None:
    """A smooth picture, scaled down: Lanczos here, bicubic there."""
    y, x = np.mgrid[0:80, 0:144] / 16
    waves = [np.sin(x + y), np.cos(x - y), np.sin(2 * x)]
    image = np.rint(np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)
    from PIL import Image

    pixels = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    mean, std = (np.reshape(s, (3, 1, 1)) for s in (processor.image_mean, processor.image_std))
    theirs = (pixels.numpy() * std + mean).transpose(1, 2, 0) * 255
    error = np.mean((cover(image, SIDE, SIDE).astype(float) - theirs) ** 2)
    assert 10 * np.log10(255**2 / error) >= 30


def test_it_was_verified(kind: str, bundle: Path) -> None:
    checks = Bundle.open(bundle).manifest.checks
    wanted = {
        "text_encoder": 3, "denoiser": 3, "clip": 1,
        "vae_decoder_first": 3, "vae_decoder_next": 6,
        "vae_encoder_first": 3, "vae_encoder_next": 6,
    }  # fmt: skip
    wanted |= {"image_encoder": 2} if kind == "Wan 2.1" else {"denoiser_2": 3}
    assert Counter(check.graph for check in checks) == wanted
    errors = [check.value for check in checks if check.metric == "relative error"]
    assert max(errors) <= 3e-6  # roundings of fp32 in some tens of layers
    assert checks[-1].case.endswith("from an image")
    assert checks[-1].value >= 60


def test_what_the_bundle_says(kind: str, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.denoiser.image == "channels"
    inputs = {spec.name: spec.shape for spec in manifest.graphs["denoiser"].inputs}
    assert inputs["hidden_states"][1] == 36
    assert inputs["timestep"] == ("batch",)
    if kind == "Wan 2.1":
        assert inputs["encoder_hidden_states_image"] == ("batch", 17, 20)
        assert manifest.graphs["image_encoder"].inputs[0].shape == ("batch", 3, SIDE, SIDE)
        assert manifest.defaults.guidance_scale == 5.0
    else:
        assert "image_encoder" not in manifest.graphs
        assert (manifest.defaults.guidance_scale, manifest.defaults.guidance_scale_2) == (3.5, None)


@pytest.mark.parametrize("kind", ["Wan 2.1"], indirect=True)
@pytest.mark.parametrize("name", ["denoiser", "image_encoder"])
def test_tensorrt_builds_what_sees_the_image(bundle: Path, tmp_path: Path, name: str) -> None:
    """With two `Attention` nodes of one query it crashed."""
    pytest.importorskip("tensorrt_rtx", reason="building engines needs the rtx extra")
    opened, store = Bundle.open(bundle), EngineStore(tmp_path)
    spec = describe(TENSORRT_RTX, opened, name, [LatentSize(2, 4, 8)], ["sm_80"])
    assert build_engine(store, opened, spec, None, lambda *_: None).record.weights_mb > 0


@pytest.mark.parametrize("kind", ["Wan 2.1"], indirect=True)
def test_loras_find_what_attends_to_the_image(bundle: Path, tmp_path: Path) -> None:
    """By the names of the model's authors."""
    found = {
        "blocks.1.cross_attn.k_img": "blocks.1.attn2.add_k_proj",
        "blocks.0.cross_attn.v_img": "blocks.0.attn2.add_v_proj",
    }
    path = tmp_path / "style.safetensors"
    differences = {f"diffusion_model.{name}.diff_b": torch.ones(24) for name in found}
    differences["diffusion_model.img_emb.proj.1.diff_b"] = torch.ones(20)
    differences["diffusion_model.img_emb.proj.3.diff_b"] = torch.ones(24)
    safetensors.save_file(differences, path)
    merged = merge(Bundle.open(bundle), "denoiser", open_loras({path: 1.0}))
    assert len(merged.weights) == len(differences)


@pytest.mark.parametrize("kind", ["Wan 2.1"], indirect=True)
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-6), ("fp16", 5e-3)])
@torch.no_grad()
def test_rewritten_modules(
    checkpoint: Path, load_module: Callable[[Any], Any], precision: Any, bound: float
) -> None:
    """The image encoder and the denoiser in PyTorch: what is exported, without the export."""
    from transformers import CLIPVisionModel

    generator = torch.Generator().manual_seed(0)
    opened = Checkpoint.open(checkpoint)
    ours = load_module(wan.image_encoder_graph(opened, precision))
    theirs = CLIPVisionModel.from_pretrained(checkpoint / "image_encoder").eval()
    image = torch.rand(2, 3, SIDE, SIDE, generator=generator) * 2 - 1
    normal = (image * 0.5 + 0.5 - ours.mean) / ours.std
    wanted = theirs(normal, output_hidden_states=True).hidden_states[-2]
    assert relative_error(ours(image).numpy(), wanted.numpy()) <= bound

    denoiser = load_module(wan.denoiser_graph(opened, precision))
    reference = diffusers.WanTransformer3DModel.from_pretrained(checkpoint / "transformer").eval()
    feeds = (
        torch.randn(2, 36, 3, 4, 10, generator=generator),
        torch.rand(2, generator=generator) * 1000,
        torch.randn(2, 512, 24, generator=generator),
        torch.randn(2, 17, 20, generator=generator),
    )
    expected = reference(*feeds, return_dict=False)[0]
    assert relative_error(denoiser(*feeds).numpy(), expected.numpy()) <= bound
    without = denoiser(*feeds[:3], feeds[3] * 0)
    assert relative_error(without.numpy(), expected.numpy()) >= 10 * bound


@pytest.mark.parametrize("kind", ["Wan 2.1"], indirect=True)
def test_either_way_to_name_clips_weights(
    checkpoint: Path, tmp_path: Path, load_module: Callable[[Any], Any]
) -> None:
    """With `vision_model.` before them, as published, and without."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    (path,) = (folder / "image_encoder").glob("*.safetensors")
    weights = safetensors.load_file(path)
    prefix = "vision_model."
    renamed = {
        k.removeprefix(prefix) if k.startswith(prefix) else f"{prefix}{k}": v
        for k, v in weights.items()
    }
    safetensors.save_file(renamed, path)
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    one, other = (
        load_module(wan.image_encoder_graph(Checkpoint.open(where), "fp32"))(image)
        for where in (checkpoint, folder)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["Wan 2.1"], indirect=True)
@pytest.mark.parametrize(
    ("file", "entries", "problem"),
    [
        (
            "image_processor/preprocessor_config.json",
            {"image_std": [0.5, "half"]},
            "preprocessor_config.json lacks image_mean or image_std, three numbers each",
        ),
        (
            "image_encoder/config.json",
            {"hidden_size": 40},
            "the transformer wants images of 20 channels, the image encoder gives 40",
        ),
        ("image_encoder/config.json", {"patch_size": "small"}, "does not describe a model ("),
    ],
    ids=["statistics", "width", "configuration"],
)
def test_image_encoders_that_do_not_fit(
    checkpoint: Path, tmp_path: Path, file: str, entries: dict[str, Any], problem: str
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "damaged"))
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    with pytest.raises(CheckpointError) as caught:
        check(Checkpoint.open(folder))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
