"""Clips that begin with an image: a tiny TI2V bundle against `WanImageToVideoPipeline`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutoscope import cli
from mutoscope.engine import Bundle
from mutoscope.export import Options, export_bundle
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime import pipeline as pipelines
from mutoscope.runtime.output import write_image
from mutoscope.runtime.pipeline import Pipeline

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
PROMPT = "a red circle moves to the right"
FLOOR_DB = 50
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path]
) -> Path:
    return make_checkpoint(
        tmp_path_factory.mktemp("ti2v") / "checkpoint",
        vae="TI2V-5B",
        transformer={"in_channels": 48, "out_channels": 48},
        scheduler=diffusers.UniPCMultistepScheduler(flow_shift=5.0, **FLOW),
        expand_timesteps=True,
    )


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    target = checkpoint.parent / "bundle"
    defaults = ["width=64", "height=32", "frames=5", "steps=2", "fps=8"]
    export_bundle(checkpoint, target, Options(defaults=defaults, verify=True))
    return target


@pytest.fixture(scope="module")
def references(checkpoint: Path) -> dict[bool, Any]:
    """diffusers' pipeline without and with an image, of the same modules."""
    text = diffusers.WanPipeline.from_pretrained(checkpoint)
    parts = {name: part for name, part in text.components.items() if part is not None}
    image = diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=True)
    for made in (text, image):
        made.set_progress_bar_config(disable=True)
    return {False: text, True: image}


def scheduler(name: str, shift: float) -> Any:
    if name == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    if name == "unipc":
        return diffusers.UniPCMultistepScheduler(flow_shift=shift, **FLOW)
    return diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", flow_shift=shift, **FLOW
    )


def both(
    pipe: Pipeline, references: dict[bool, Any], image: np.ndarray | None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the same request from the same noise: ours, then the reference's."""
    given = {"width": 64, "height": 32, "frames": 9, "steps": 4, "guidance_scale": 4.0}
    given |= {"scheduler": "unipc", "shift": 5.0, **options}
    latents = standard_normal(
        5, (1, 48, (given["frames"] - 1) // 4 + 1, given["height"] // 16, given["width"] // 16)
    )
    clip = pipe(PROMPT, image=image, latents=latents, **given)
    reference = references[image is not None]
    reference.scheduler = scheduler(given["scheduler"], given["shift"])
    planes = {} if image is None else {"image": as_planes(image)}
    theirs = reference(
        prompt=PROMPT,
        width=given["width"],
        height=given["height"],
        num_frames=given["frames"],
        num_inference_steps=given["steps"],
        guidance_scale=given["guidance_scale"],
        latents=torch.from_numpy(latents),
        output_type="np",
        **planes,
    )
    return clip.frames, np.round(theirs.frames[0] * 255).astype(np.uint8)


def as_planes(image: np.ndarray) -> Any:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    error = np.mean((ours.astype(float) - theirs) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def random_image(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "euler", "shift": 3.0},
        {"scheduler": "unipc"},
        {"scheduler": "dpmpp-2m"},
        {"guidance_scale": 1.0},
        {"width": 32, "height": 96, "frames": 5},
        {"frames": 1},
    ],
    ids=["euler", "unipc", "dpmpp-2m", "no guidance", "tall, 5 frames", "one frame"],
)
def test_from_an_image(
    pipe: Pipeline, references: dict[bool, Any], options: dict[str, Any]
) -> None:
    image = random_image(options.get("width", 64), options.get("height", 32))
    assert psnr(*both(pipe, references, image, **options)) >= FLOOR_DB


def test_one_prediction_at_a_time(
    pipe: Pipeline, references: dict[bool, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "fits_batched", lambda *_: False)
    assert psnr(*both(pipe, references, random_image(64, 32))) >= FLOOR_DB


@pytest.mark.parametrize("name", ["euler", "unipc"])
def test_from_text_alone(pipe: Pipeline, references: dict[bool, Any], name: str) -> None:
    assert psnr(*both(pipe, references, None, scheduler=name)) >= FLOOR_DB


def test_the_image_matters(pipe: Pipeline) -> None:
    """Other clips come of other images, and of none: no frame of them is alike."""
    clips = [
        pipe(PROMPT, seed=1, image=image).frames.astype(float)
        for image in (None, random_image(64, 32, 0), random_image(64, 32, 1))
    ]
    for one, other in ((0, 1), (1, 2)):
        assert np.abs(clips[one] - clips[other]).mean(axis=(1, 2, 3)).min() > 1


def test_the_bundle_says_that_it_takes_an_image(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.denoiser.image == "first_frame"
    (timestep,) = (s for s in manifest.graphs["denoiser"].inputs if s.name == "timestep")
    assert timestep.shape == ("batch", "latent_frames")
    assert (manifest.latents.channels, manifest.latents.spatial_compression) == (48, 16)


def test_it_was_verified(bundle: Path) -> None:
    checks = Bundle.open(bundle).manifest.checks
    assert Counter(check.graph for check in checks) == {
        "text_encoder": 3, "denoiser": 3, "clip": 2,
        "vae_decoder_first": 3, "vae_decoder_next": 6,
        "vae_encoder_first": 3, "vae_encoder_next": 6,
    }  # fmt: skip
    errors = [check.value for check in checks if check.metric == "relative error"]
    assert max(errors) <= 3e-6  # roundings of fp32 in some tens of layers
    assert checks[-1].case.endswith("from an image")
    assert min(check.value for check in checks if check.graph == "clip") >= 60


def test_the_command(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A picture of another size and shape is cut to the bundle's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.signal, "signal", lambda kind, handler: None)
    monkeypatch.setattr(cli.sys, "unraisablehook", cli.sys.unraisablehook)
    write_image(tmp_path / "first.png", random_image(50, 70))
    arguments = ["generate", PROMPT, "--bundle", str(bundle), "--image", "first.png", "--json"]
    cli.main(arguments)
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["image"]["name"] == "first.png"
    assert (record["settings"]["width"], record["settings"]["height"]) == (64, 32)
    assert (tmp_path / "clip.mp4").stat().st_size > 0
    with pytest.raises(SystemExit) as leave:
        cli.main([*arguments[:5], "clip.mp4", "-o", "other.mp4"])
    assert leave.value.code == 2
    assert capsys.readouterr().err == (
        "mutoscope: error: clip.mp4 is no PNG, JPEG or WebP image; convert it to one of these\n"
    )
    assert not (tmp_path / "other.mp4").exists()
