"""Each mistake gets one line and exit code 2, and nothing is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import pytest

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
PROMPT = "a red circle moves up"
Run = Callable[..., Any]


@pytest.fixture
def bundle(folder: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, folder / "bundle"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing argument 'PROMPT'."),
        ([""], 'the prompt is empty; say what to show, e.g. "a red circle moves up"'),
        ([PROMPT, "--size", "70x64"], "width must be a multiple of 16, 70 is not: use 64 or 80"),
        (
            [PROMPT, "--size", "64"],
            "Invalid value for '--size': '64' is not WIDTHxHEIGHT, e.g. 64x",
        ),
        ([PROMPT, "--frames", 16], "frames must be 4n+1, 16 is not: use 13 or 17"),
        ([PROMPT, "--steps", -3], "steps must be between 1 and 1000, not -3"),
        ([PROMPT, "--steps", "x"], "Invalid value for '--steps': 'x' is not a valid integer."),
        ([PROMPT, "--scheduler", "unipcc"], "unknown scheduler 'unipcc'; did you mean 'unipc'?"),
        ([PROMPT, "--guidence", 3], "No such option '--guidence'."),
        ([PROMPT, "--backend", "onx"], "unknown backend 'onx'"),
        ([PROMPT, "--precision", "fp16"], "EMBEDDED is fp32, not fp16; make one with: mutoscope e"),
        ([PROMPT, "--threads", 0], "threads must be between 1 and "),
        ([PROMPT, "-o", "none/clip.mp4"], "the folder none does not exist; make it first"),
        (
            [PROMPT, "-o", "clip.avi"],
            "clip.avi: .avi is not supported; use .mp4, .mkv, .webm, .gif",
        ),
        (
            [PROMPT, "-o", "clip.png"],
            ".png holds one frame, the clip has 17; write .mp4, or a fold",
        ),
        ([PROMPT, "--quality", 101], "quality must be between 0 and 100, not 101"),
        (
            [PROMPT, "--codec", "vp9"],
            ".mp4 holds h264 or hevc or av1, not vp9; vp9 goes into .webm",
        ),
        ([PROMPT, "--encoder", "libx265x"], "unknown encoder 'libx265x'"),
        (
            [PROMPT, "--lora", "none.safetensors"],
            "no LoRA at none.safetensors: there is no such file (the bundle's own: four-",
        ),
        (
            [PROMPT, "--lora", "a.safetensors:high"],
            "Invalid value for '--lora': 'a.safetensors:high': 'high' is not a scale, e.g. a.safe",
        ),
        (
            [PROMPT, "--lora", "a.safetensors:nan"],
            "the scale of a.safetensors must be a number, not nan",
        ),
        (
            [PROMPT, "--lora", "a.safetensors", "--lora", "a.safetensors:0.5"],
            "--lora names a.safetensors twice; add up the scales",
        ),
        ([PROMPT, "--bundle", "none"], "no bundle at none: there is no such folder"),
        ([PROMPT, "--preview", "x.jpg"], "x.jpg: a preview is a .png"),
        (
            [PROMPT, "--guidance-method", "apg"],
            "guidance_method apg needs guidance: give a guidance_scale above 1, or choose another",
        ),
        ([PROMPT, "--apg-eta", 0.5], "apg_eta is for guidance_method apg, not for cfg"),
        ([PROMPT, "--image", "first.png"], "there is no image at first.png"),
    ],
)
def test_generate(run: Run, folder: Path, arguments: list[Any], told: str) -> None:
    done = run("generate", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(told.replace("EMBEDDED", str(EMBEDDED)))
    assert list(folder.iterdir()) == []


def test_an_image_for_a_bundle_that_takes_none(run: Run, folder: Path, bundle_folder: Path) -> None:
    done = run("generate", PROMPT, "--image", "first.png", "--bundle", bundle_folder)
    assert done.code == 2
    assert done.error.startswith(
        "the bundle null makes clips from text alone; an image needs a bundle of an "
    )
    assert list(folder.iterdir()) == []


def test_unknown_command(run: Run) -> None:
    done = run("generat", PROMPT)
    assert done.code == 2
    assert done.error.startswith("unknown command 'generat'; did you mean 'generate'?")


def test_existing_output(run: Run, folder: Path) -> None:
    (folder / "clip.mp4").write_text("precious")
    done = run("generate", PROMPT)
    assert done.code == 2
    assert done.error == "clip.mp4 exists; choose another name or pass --overwrite"
    assert (folder / "clip.mp4").read_text() == "precious"


def test_flipped_byte(run: Run, bundle: Path) -> None:
    path = bundle / "denoiser.data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    done = run("generate", PROMPT, "--bundle", "bundle")
    assert done.code == 2
    assert done.error == (
        "bundle/denoiser.data is not the file that was exported (its sha256 differs); "
        "copy or export the bundle again"
    )


def test_missing_file(run: Run, bundle: Path) -> None:
    (bundle / "vae_decoder_next.onnx").unlink()
    done = run("generate", PROMPT, "--bundle", "bundle")
    assert done.error == "bundle lacks vae_decoder_next.onnx; copy or export the bundle again"


def test_path_outside(run: Run, bundle: Path) -> None:
    whole = json.loads((bundle / "bundle.json").read_text())
    whole["graphs"]["denoiser"]["file"] = "../denoiser.onnx"
    whole["files"]["../denoiser.onnx"] = whole["files"].pop("denoiser.onnx")
    (bundle / "bundle.json").write_text(json.dumps(whole))
    done = run("generate", PROMPT, "--bundle", "bundle")
    assert done.error == "bundle/bundle.json names '../denoiser.onnx', outside the bundle; refused"


def test_future_schema(run: Run, bundle: Path) -> None:
    whole = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**whole, "schema": 9}))
    done = run("inspect", "bundle")
    assert done.code == 2
    assert done.error == (
        "bundle/bundle.json has schema 9, this version reads up to 1: upgrade mutoscope"
    )


@pytest.mark.parametrize(
    ("missing", "arguments", "told"),
    [
        (
            "onnxruntime",
            ["generate", PROMPT],
            "onnxruntime is not installed; install it with: pip install 'mutoscope[cpu]'",
        ),
        (
            "torch",
            ["export", str(EMBEDDED), "out"],
            "torch is not installed; install it with: pip install 'mutoscope[export]'",
        ),
    ],
)
def test_missing_extra(folder: Path, missing: str, arguments: list[str], told: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import mutoscope.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mutoscope: error: {told}\n"
    assert list(folder.iterdir()) == []


def test_preview_over_an_existing_file(run: Run, folder: Path) -> None:
    (folder / "photo.png").write_text("precious")
    done = run("generate", PROMPT, "--preview", "photo.png")
    assert done.code == 2
    assert done.error == "photo.png exists; choose another name or pass --overwrite"
    assert (folder / "photo.png").read_text() == "precious"


def test_undecodable_prompt(run: Run, folder: Path) -> None:
    """A byte that is no UTF-8 reaches Python as a lone surrogate; the clip is made all the same."""
    done = run("generate", "a red \udcff circle", "--steps", 1)
    assert done.code == 0
    record = json.loads((folder / "clip.mp4.json").read_text())
    assert record["settings"]["prompt"] == "a red ? circle"


def test_more_than_the_memory_holds(folder: Path) -> None:
    """Latents of 1.4 GB, where a process may have one."""
    generate = [sys.executable, "-P", "-m", "mutoscope", "generate", PROMPT, "--steps", "1"]
    command = ["prlimit", f"--data={1 << 30}", *generate, "--size", "4096x4096", "--frames", "321"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "mutoscope: error: this machine's memory does not suffice; close other programs"
    )
    assert not list(folder.iterdir())
