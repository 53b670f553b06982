"""`mutoscope plan`: what it says, and whether that comes true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope.cli.plan import Amount, lines
from mutoscope.engine import Bundle
from mutoscope.runtime.plan import Machine, make_plan
from mutoscope.runtime.request import Request, settle

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
LONG_PROMPT = "a red circle moves left to right " * 60
Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("size", "frames", "guidance"),
    [("96x96", 17, 4), ("128x96", 33, 4), ("192x256", 5, 1), ("64x64", 1, 4)],
)
def test_the_peak_comes_true(
    run: Run, folder: Path, size: str, frames: int, guidance: float
) -> None:
    request = ["--size", size, "--frames", str(frames), "--guidance", str(guidance), "--steps", "2"]
    told = json.loads(run("plan", EMBEDDED, *request, "--json").out)
    command = [sys.executable, "-P", "-m", "mutoscope", "generate", LONG_PROMPT, *request, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)["peak_memory_mb"]
    assert told["ram_mb"] == pytest.approx(measured, rel=0.15)


KEPT_OPEN = """
import sys, mutoscope
width, height = map(int, sys.argv[2].split("x"))
with mutoscope.load() as pipe:
    clip = pipe(sys.argv[1], width=width, height=height, frames=int(sys.argv[3]), steps=2,
                output="clip.mp4")
print(clip.record.peak_memory_mb)
"""


@pytest.mark.parametrize(("size", "frames"), [("96x96", 17), ("128x96", 33)])
def test_the_peak_with_engines_kept_open(run: Run, folder: Path, size: str, frames: int) -> None:
    request = ["--size", size, "--frames", str(frames), "--steps", "2"]
    told = json.loads(run("plan", EMBEDDED, *request, "--json").out)
    command = [sys.executable, "-P", "-c", KEPT_OPEN, LONG_PROMPT, size, str(frames)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert told["ram_kept_open_mb"] == pytest.approx(float(done.stdout), rel=0.15)
    assert told["ram_kept_open_mb"] > told["ram_mb"]


def test_table(run: Run) -> None:
    done = run("plan", EMBEDDED, "--ram", "24GB")
    head, names, *rows = done.out.splitlines()
    assert head == "96x96, 17 frames, fp32, guidance in one batch"
    assert " ".join(names.split()) == "graph, MB weights working weights (GPU) working (GPU)"
    assert [row.split()[0] for row in rows[:4]] == [
        "text_encoder", "denoiser", "vae_decoder_first", "vae_decoder_next",
    ]  # fmt: skip
    assert rows[4].startswith("onnxruntime, CPU: ")
    assert rows[4].endswith(" MB of 24576.0 MB")
    assert rows[-1] == "fits: --backend onnxruntime"


def test_a_gpu_that_it_fits_on_comes_first(run: Run) -> None:
    told = json.loads(run("plan", EMBEDDED, "--vram", "2GB", "--json").out)
    assert (told["backend"], told["machine"]["vram_mb"]) == ("tensorrt-rtx", 2048)
    assert told["text_backend"] is None
    assert (
        json.loads(run("plan", EMBEDDED, "--vram", "2MB", "--json").out)["backend"] == "onnxruntime"
    )


def test_a_text_encoder_too_large_for_the_gpu_stays_on_the_cpu() -> None:
    bundle = Bundle.open(EMBEDDED)
    settings = settle(Request(prompt="any"), bundle.manifest)
    small = make_plan(bundle, settings, Machine(ram=8 << 30, vram=1 << 30))
    (name, needs), *_ = small.stages[0].items()
    large = replace(needs, gpu=replace(needs.gpu, weights=2 << 30))
    plan = replace(small, stages=({name: large}, *small.stages[1:]))
    assert (name, small.text_backend) == ("text_encoder", None)
    assert plan.vram_without_text < 1 << 30 < plan.vram
    assert (plan.backend, plan.text_backend) == ("tensorrt-rtx", "onnxruntime")
    assert lines(plan)[-1].startswith(
        "fits: mutoscope build, then --backend tensorrt-rtx --text-backend onnxruntime"
    )
    without_ram = replace(plan, machine=Machine(ram=1 << 20, vram=1 << 30))
    assert (without_ram.backend, without_ram.text_backend) == (None, None)


def test_what_fits_nowhere_is_refused(run: Run) -> None:
    done = run(
        "plan", EMBEDDED, "--size", "512x512", "--ram", "0.5GB", "--vram", "0.1 GiB", "--json"
    )
    told = json.loads(done.out)
    assert done.code == 2
    assert told["backend"] is None
    assert told["guidance"] == "one prediction after the other"  # a quarter of that is too little
    assert done.error.startswith(
        f"the clip needs {told['ram_mb']} MB on the CPU, 512.0 MB are there, and "
        f"{told['vram_mb']} MB on the GPU, 102.4 MB are there; what would help: a smaller --size or"
    )
    assert "--vae-tile 256" in done.error


def test_more_takes_more(run: Run) -> None:
    def ram(*request: object) -> float:
        return float(json.loads(run("plan", EMBEDDED, "--json", *request).out)["ram_mb"])

    assert ram("--size", "64x64") < ram("--size", "64x96") < ram("--size", "128x96")
    large = "--size", "256x192"
    assert ram(*large, "--frames", 17) < ram(*large, "--frames", 33)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--ram", "lots"],
            "Invalid value for '--ram': 'lots' is not an amount of memory, e.g. 12GB",
        ),
        (
            ["--vram", "0GB"],
            "Invalid value for '--vram': '0GB' is not an amount of memory, e.g. 12GB",
        ),
        (["--ram", "12"], "Invalid value for '--ram': '12' is not an amount of memory, e.g. 12GB"),
        (["--size", "70x64"], "width must be a multiple of 16, 70 is not: use 64 or 80"),
        (["--frames", 16], "frames must be 4n+1, 16 is not: use 13 or 17"),
    ],
)
def test_mistakes(run: Run, arguments: list[Any], told: str) -> None:
    done = run("plan", EMBEDDED, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(told)


@pytest.mark.parametrize(
    ("text", "amount"), [("12GB", 12 << 30), ("1.5g", 3 << 29), ("512 MiB", 512 << 20)]
)
def test_amounts(text: str, amount: int) -> None:
    assert Amount().convert(text, None, None) == amount
