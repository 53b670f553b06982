"""Whole clips: the embedded bundle against diffusers' `WanPipeline` on its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.adherence import aggregate, prompts, score, vocabulary_of
from mutoscope.kernels.noise import standard_normal
from mutoscope.runtime.pipeline import Pipeline

torch = pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
diffusers = pytest.importorskip("diffusers", reason="parity tests need the export extra")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, of NumPy's
]
CHECKPOINT = Path(__file__).parents[1] / "data" / "mini-wan"
PROMPT = "a green star moves in a circle on a navy background"
FLOOR_DB = 50
CLIPS = 12
"""So few that one answer more or less is eight points of an attribute: none may differ."""


@pytest.fixture(scope="module")
def reference() -> Any:
    pipe = diffusers.WanPipeline.from_pretrained(CHECKPOINT)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with mutoscope.load(preset="full") as opened:
        yield opened


def scheduler(name: str, shift: float) -> Any:
    if name == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    if name == "unipc":
        return diffusers.UniPCMultistepScheduler(**flow)
    return diffusers.DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **flow)


def give_sigmas(scheduler: Any, sigmas: Sequence[float]) -> None:
    """Let a scheduler take these, as the few-step pipelines of Wan do: `WanPipeline` has no way."""
    set_timesteps = scheduler.set_timesteps

    def given(steps: int, device: Any = None) -> None:
        assert steps == len(sigmas)
        set_timesteps(sigmas=list(sigmas), device=device)

    scheduler.set_timesteps = given


def both(
    pipe: Pipeline, reference: Any, prompt: str = PROMPT, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the same request from the same noise: ours, then the reference's."""
    given = {"width": 96, "height": 96, "frames": 17, "steps": 30, "guidance_scale": 4.0}
    given |= {"scheduler": "euler", "shift": 3.0, "negative_prompt": "", **options}
    sigmas = given.get("sigmas")
    shape = (1, 16, (given["frames"] - 1) // 4 + 1, given["height"] // 8, given["width"] // 8)
    latents = standard_normal(5, shape)
    clip = pipe(prompt, latents=latents, **given)
    reference.scheduler = scheduler(given["scheduler"], given["shift"])
    if sigmas is not None:
        give_sigmas(reference.scheduler, sigmas)
    output = reference(
        prompt,
        negative_prompt=given["negative_prompt"],
        width=given["width"],
        height=given["height"],
        num_frames=given["frames"],
        num_inference_steps=given["steps"],
        guidance_scale=given["guidance_scale"],
        latents=torch.from_numpy(latents),
        max_sequence_length=pipe.bundle.manifest.text.max_tokens,
        output_type="np",
    )
    return clip.frames, np.round(output.frames[0] * 255).astype(np.uint8)


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    error = np.mean((ours.astype(float) - theirs) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("name", ["euler", "unipc", "dpmpp-2m"])
def test_every_scheduler(pipe: Pipeline, reference: Any, name: str) -> None:
    assert psnr(*both(pipe, reference, scheduler=name)) >= FLOOR_DB


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": 6.0, "negative_prompt": "a blue circle"},
        {"width": 96, "height": 32, "frames": 9, "steps": 8},
        {"width": 48, "height": 80, "frames": 1, "steps": 8},
        {"steps": 4, "shift": 5.0, "scheduler": "unipc"},
        {"steps": 4, "shift": 5.0, "guidance_scale": 1.0, "sigmas": (1.0, 0.9, 0.7, 0.3)},
        {"prompt": "a  red circle &amp; " * 200, "steps": 4},
    ],
    ids=[
        "no guidance",
        "negative",
        "wide",
        "one tall frame",
        "few steps",
        "distilled",
        "longest prompt",
    ],
)
def test_odd_requests(pipe: Pipeline, reference: Any, options: dict[str, Any]) -> None:
    assert psnr(*both(pipe, reference, **options)) >= FLOOR_DB


def test_adherence_is_the_references(pipe: Pipeline, reference: Any) -> None:
    """Within two points of diffusers on every attribute, from the same noise."""
    vocabulary = vocabulary_of(pipe.tokenizer.words)
    assert vocabulary is not None
    ours, theirs = [], []
    for prompt, scene in prompts(CLIPS, vocabulary=vocabulary):
        for scores, frames in zip((ours, theirs), both(pipe, reference, prompt), strict=True):
            scores.append(score(frames, scene, vocabulary))
    for attribute, tally in aggregate(theirs).tallies.items():
        assert abs(aggregate(ours).tallies[attribute].fraction - tally.fraction) <= 0.02


def test_tiles_lose_no_more_than_diffusers_own(pipe: Pipeline, reference: Any) -> None:
    """Both blend tiles of 64 pixels that share 16; each is compared with its whole frames."""
    options: dict[str, Any] = {"width": 144, "height": 112, "frames": 9, "steps": 4}
    whole, theirs = both(pipe, reference, **options)
    assert psnr(whole, theirs) >= FLOOR_DB
    size = {f"tile_sample_min_{side}": 64 for side in ("height", "width")}
    stride = {f"tile_sample_stride_{side}": 48 for side in ("height", "width")}
    reference.vae.enable_tiling(**size, **stride)
    try:
        _, theirs_tiled = both(pipe, reference, **options)
    finally:
        reference.vae.disable_tiling()
    shape = (1, 16, 3, options["height"] // 8, options["width"] // 8)
    given = {**options, "latents": standard_normal(5, shape), "scheduler": "euler", "shift": 3.0}
    tiled = pipe(PROMPT, negative_prompt="", guidance_scale=4.0, vae_tile=64, **given).frames
    ours, diffusers_loss = psnr(tiled, whole), psnr(theirs_tiled, theirs)
    assert 20 < diffusers_loss < 60
    assert ours >= diffusers_loss - 0.5
