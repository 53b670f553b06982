"""`mutoscope generate`: what it writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.quality import similarity
from mutoscope.engine.manifest import read_manifest
from mutoscope.runtime.output import write_image
from mutoscope.runtime.video import probe, read_frames

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PROMPT = "a red circle moves left to right"
Run = Callable[..., Any]


def test_main_job(run: Run, folder: Path) -> None:
    done = run("generate", PROMPT, "--seed", 7)
    assert done.code == 0
    assert done.out.startswith("clip.mp4: 17 frames, 96x96, 12 fps, seed 7, ")
    assert sorted(p.name for p in folder.iterdir()) == ["clip.mp4", "clip.mp4.json"]
    clip = probe(folder / "clip.mp4")
    assert (clip.codec, clip.width, clip.height, clip.frames) == ("h264", 96, 96, 17)
    assert (clip.fps, clip.pix_fmt, clip.colour_space) == (12, "yuv420p", "bt709")


def test_the_circle_is_red_and_moves_right(run: Run, folder: Path) -> None:
    run("generate", PROMPT, "--seed", 7)
    frames = read_frames(folder / "clip.mp4").astype(float)
    redness = np.clip(frames[..., 0] - frames[..., 1:].max(axis=-1) - 40, 0, None)
    assert redness.sum(axis=(1, 2)).min() > 0
    centre = (redness.sum(axis=1) * np.arange(96)).sum(axis=1) / redness.sum(axis=(1, 2))
    assert centre[-1] - centre[0] > 30


def test_record_beside_and_inside(run: Run, folder: Path) -> None:
    printed = json.loads(run("generate", PROMPT, "--seed", 7, "--steps", 2, "--json").out)
    beside = json.loads((folder / "clip.mp4.json").read_text())
    assert beside == printed
    assert beside["settings"]["prompt"] == PROMPT
    assert beside["settings"]["seed"] == 7
    assert set(beside["seconds"]) == {"text", "open", "denoise", "vae", "encode", "total"}
    assert len(beside["step_seconds"]) == 2
    assert beside["output"]["codec"] == "h264"
    inspected = json.loads(run("inspect", "clip.mp4", "--json").out)
    assert inspected["made"] == {
        name: beside[name]
        for name in (
            "settings", "bundle", "loras", "backend", "text_backend", "kernels", "versions",
        )
    }  # fmt: skip
    assert beside["kernels"] == []  # an fp32 bundle is ONNX Runtime's alone


def test_no_metadata(run: Run, folder: Path) -> None:
    run("generate", PROMPT, "--steps", 1, "--no-metadata")
    assert [p.name for p in folder.iterdir()] == ["clip.mp4"]
    assert b"circle" not in (folder / "clip.mp4").read_bytes()
    assert "made" not in json.loads(run("inspect", "clip.mp4", "--json").out)


def test_same_seed_same_bytes(run: Run, folder: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        run("generate", PROMPT, "--seed", 7, "--steps", 3, "-o", name)
    run("generate", PROMPT, "--seed", 8, "--steps", 3, "-o", "c.mp4")
    first, second, other = ((folder / f"{n}.mp4").read_bytes() for n in "abc")
    assert first == second != other


@pytest.mark.parametrize(
    ("name", "options", "codec", "frames"),
    [
        ("clip.mp4", ["--codec", "hevc"], "hevc", 17),
        ("clip.mkv", ["--codec", "av1"], "av1", 17),
        ("clip.mp4", ["--dither", "bayer"], "h264", 17),
        ("clip.webm", [], "vp9", 17),
        ("clip.gif", [], "gif", 17),
        ("clip.png", ["--frames", 1], "png", 1),
        ("clip", [], "png", 17),
    ],
)
def test_formats(
    run: Run, folder: Path, name: str, options: list[Any], codec: str, frames: int
) -> None:
    done = run("generate", PROMPT, "--steps", 1, "-o", name, *options)
    assert done.code == 0, done.err
    clip = probe(folder / name)
    assert (clip.codec, clip.frames, clip.width) == (codec, frames, 96)
    record = folder / ("clip/clip.json" if name == "clip" else f"{name}.json")
    assert json.loads(record.read_text())["output"]["codec"] == codec


@pytest.mark.parametrize("scheduler", ["euler", "unipc", "dpmpp-2m"])
def test_schedulers(run: Run, scheduler: str) -> None:
    record = run("generate", PROMPT, "--steps", 2, "--scheduler", scheduler, "--json").out
    assert json.loads(record)["settings"]["scheduler"] == scheduler


def test_rescaled_guidance_changes_guided_clips_alone() -> None:
    small = {"width": 32, "height": 32, "frames": 1, "steps": 2, "seed": 3}
    with mutoscope.load(preset="full") as pipe:
        for scale, same in ((8.0, False), (1.0, True)):
            plain, rescaled = (
                pipe(PROMPT, guidance_scale=scale, guidance_rescale=rescale, **small).frames
                for rescale in (0.0, 1.0)
            )
            assert np.array_equal(plain, rescaled) == same


@pytest.mark.parametrize(
    "beside",
    [{}, {"sequential_guidance": True}, {"step_cache": 5.0, "guidance_interval": (0, 0.5)}],
    ids=["alone", "sequential", "cache and interval"],
)
def test_methods_of_guidance_make_clips_of_their_own(beside: dict[str, Any]) -> None:
    small = {"width": 32, "height": 32, "frames": 1, "steps": 8, "seed": 3}
    methods: list[dict[str, Any]] = [
        {},
        {"guidance_method": "cfg-zero"},
        {"guidance_method": "cfg-zero", "zero_init_steps": 0},
        {"guidance_method": "apg"},
        {"guidance_method": "apg", "apg_norm_threshold": 1.0},
    ]
    with mutoscope.load(preset="full") as pipe:
        clips = [pipe(PROMPT, **small, **beside, **method) for method in methods]
    assert len({clip.frames.tobytes() for clip in clips}) == len(methods)
    assert all(bool(clip.record.foretold_steps) == ("step_cache" in beside) for clip in clips)


def test_zero_init_steps(run: Run) -> None:
    given = ["--preset", "full", "--steps", 4, "--guidance-method", "cfg-zero", "--frames", 1]
    record = json.loads(run("generate", PROMPT, *given, "--zero-init-steps", 2, "--json").out)
    assert record["settings"]["zero_init_steps"] == 2
    assert len(record["step_seconds"]) == 4


def test_every_option(run: Run, folder: Path) -> None:
    done = run(
        "generate", PROMPT, "-o", "out.mp4", "--size", "96x64", "--frames", 5, "--fps", 8,
        "--steps", 2, "--guidance", 3, "--negative", "blue", "--scheduler", "unipc", "--shift", 5,
        "--backend", "onnxruntime", "--precision", "fp32", "--threads", 1, "--encoder", "software",
        "--quality", 90, "--preview", "preview.png", "--json",
        "--guidance-interval", "0:0.5", "--step-cache", 0.1, "--vae-tile", 64,
        "--sequential-guidance", "--guidance-rescale", 0.7, "--guidance-method", "apg",
        "--apg-eta", 0.5, "--apg-norm-threshold", 20,
    )  # fmt: skip
    settings = json.loads(done.out)["settings"]
    del settings["seed"]
    assert settings == {
        "prompt": PROMPT, "negative_prompt": "blue", "width": 96, "height": 64, "frames": 5,
        "fps": 8.0, "steps": 2, "guidance_scale": 3.0, "scheduler": "unipc", "shift": 5.0,
        "guidance_interval": [0, 0.5], "step_cache": 0.1, "vae_tile": 64,
        "sequential_guidance": True, "guidance_rescale": 0.7, "guidance_method": "apg",
        "apg_eta": 0.5, "apg_norm_threshold": 20,
    }  # fmt: skip
    clip = probe(folder / "out.mp4")
    assert (clip.width, clip.height, clip.frames, clip.fps) == (96, 64, 5, 8)
    # two latent frames of 12x8 pixels, side by side, eight times enlarged
    assert read_frames(folder / "preview.png").shape == (1, 64, 192, 3)


def test_a_clip_begins_with_an_image(run: Run, folder: Path) -> None:
    """Its first frame is the image, as far as the autoencoder can tell it."""
    image = np.full((96, 96, 3), (18, 24, 72), np.uint8)
    image[30:66, 12:48] = (225, 30, 35)
    write_image(folder / "first.png", image)
    done = run("generate", "it moves left to right", "--image", "first.png", "--seed", 7, "--json")
    assert json.loads(done.out)["settings"]["image"]["name"] == "first.png"
    first = read_frames(folder / "clip.mp4")[0]
    assert similarity(first[None], image[None]).psnr > 20


def test_overwrite(run: Run, folder: Path) -> None:
    run("generate", PROMPT, "--steps", 1, "--seed", 1)
    first = (folder / "clip.mp4").read_bytes()
    refused = run("generate", PROMPT, "--steps", 1, "--seed", 2)
    assert refused.code == 2
    assert (folder / "clip.mp4").read_bytes() == first
    done = run("generate", PROMPT, "--steps", 1, "--seed", 2, "--overwrite")
    assert done.code == 0
    assert (folder / "clip.mp4").read_bytes() != first
    assert json.loads((folder / "clip.mp4.json").read_text())["settings"]["seed"] == 2


def test_long_prompt_is_cut_visibly(start: Callable[..., Any]) -> None:
    process = start("generate", "a red circle " * 300 + "moves up", "--steps", 1, "--json")
    printed, errors = process.communicate()
    (warning,) = json.loads(printed)["warnings"]
    assert warning.startswith("prompt cut; ignored: ")
    assert warning.endswith("a red circle moves up")
    cut = warning.removeprefix("prompt cut; ignored: ")
    told = f"the prompt is longer than 128 tokens; this part is ignored: {cut!r}"
    assert errors.splitlines()[0] == f"mutoscope: {told}"


def test_silent_when_not_a_terminal(start: Callable[..., Any]) -> None:
    process = start("generate", PROMPT, "--steps", 2, "--encoder", "software")
    assert process.communicate()[1] == ""


def test_python_api_example(folder: Path) -> None:
    with mutoscope.load() as pipe:
        clip = pipe(PROMPT, seed=7, steps=2)
        clip.save("clip.mp4")
        with pytest.raises(mutoscope.UserError, match="clip.mp4 exists"):
            clip.save("clip.mp4")
        straight = pipe(PROMPT, seed=7, steps=2, output="straight.mp4")
    assert clip.frames.shape == straight.frames.shape == (17, 96, 96, 3)
    assert (folder / "clip.mp4").stat().st_size > 0
    # what went straight to the file comes back through its lossy codec
    error = np.mean((clip.frames.astype(float) - straight.frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 30


@pytest.fixture
def style(folder: Path) -> Path:
    """A LoRA in the working folder that changes the denoiser's last layer."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    width = read_manifest(EMBEDDED)[0].denoiser.hidden_size
    pair = {
        "transformer.proj_out.lora_A.weight": rng.standard_normal((4, width), np.float32),
        "transformer.proj_out.lora_B.weight": rng.standard_normal((64, 4), np.float32) / 20,
    }
    save_file(pair, folder / "style.safetensors", {"author": "a \x1b[31mtest"})
    return folder / "style.safetensors"


def test_with_a_lora(run: Run, folder: Path, style: Path) -> None:
    """The clip changes, the same each time, and says what changed it; so does its file."""
    request = ("generate", PROMPT, "--preset", "full", "--seed", 7, "--steps", 2, "--json", "-o")
    plain = json.loads(run(*request, "plain.mp4").out)
    styled = json.loads(run(*request, "styled.mp4", "--lora", "style.safetensors:0.8").out)
    run(*request, "again.mp4", "--lora", f"{style}:0.8")
    sha256 = hashlib.sha256(style.read_bytes()).hexdigest()
    wanted = [{"name": "style.safetensors", "sha256": sha256, "scale": 0.8}]
    assert (plain["loras"], styled["loras"]) == ([], wanted)
    assert json.loads(run("inspect", "styled.mp4", "--json").out)["made"]["loras"] == wanted
    assert (folder / "styled.mp4").read_bytes() == (folder / "again.mp4").read_bytes()
    frames = [read_frames(folder / name).astype(int) for name in ("plain.mp4", "styled.mp4")]
    assert np.abs(frames[0] - frames[1]).mean() > 1


def test_inspect_a_lora(run: Run, folder: Path, style: Path) -> None:
    facts = json.loads(run("inspect", "style.safetensors", "--json").out)
    assert facts == {
        "kind": "lora",
        "path": "style.safetensors",
        "sha256": hashlib.sha256(style.read_bytes()).hexdigest(),
        "megabytes": 0.0,
        "tensors": 2,
        "stored": ["F32"],
        "rank": [4],
        "strength": [1.0],
        "targets": ["transformer.proj_out"],
        "metadata": {"author": "a \x1b[31mtest"},
    }
    assert "\x1b" not in run("inspect", "style.safetensors").out
