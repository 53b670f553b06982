"""`mutoscope plan`: what it says, and whether that comes true."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope.cli.options import Amount
from mutoscope.cli.plan_commands import builds, generate
from mutoscope.cli.plan_report import Report
from mutoscope.engine import Bundle
from mutoscope.engine.planner import Needs, Peak, Weights
from mutoscope.runtime.plan import Machine, Placement, Plan
from mutoscope.runtime.plan.stages import Stages
from mutoscope.runtime.plan.ways import Measure, Way
from mutoscope.runtime.request import Request, settle

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
LONG_PROMPT = "a red circle moves left to right " * 60
Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("size", "frames", "guidance", "preset"),
    [
        ("96x96", 17, 4, "full"),
        ("128x96", 33, 4, "fast"),
        ("192x256", 5, 1, "fast"),
        ("64x64", 1, 4, "full"),
        ("96x96", 17, 4, "full --lora outlines:0.8 --lora four-steps"),
    ],
)
def test_the_peak_comes_true(
    run: Run, folder: Path, size: str, frames: int, guidance: float, preset: str
) -> None:
    request = ["--size", size, "--frames", str(frames), "--guidance", str(guidance), "--steps", "2"]
    request += ["--preset", *preset.split()]
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
    done = run("plan", EMBEDDED, "--preset", "full", "--ram", "24GB")
    head, names, *rows = done.out.splitlines()
    assert head == "96x96, 17 frames, fp32, guidance in one batch"
    assert " ".join(names.split()) == "graph, MB weights working weights (GPU) working (GPU)"
    assert [row.split()[0] for row in rows[:4]] == [
        "text_encoder", "denoiser", "vae_decoder_first", "vae_decoder_next",
    ]  # fmt: skip
    assert rows[4].startswith("onnxruntime, CPU: ")
    assert rows[4].endswith(" MB of 24576.0 MB")
    assert rows[-2].startswith("fits: --backend onnxruntime; ")
    assert rows[-2].endswith(" MB of 24.0 GB of memory")
    assert rows[-1] == (
        f"mutoscope generate PROMPT --bundle {EMBEDDED} --size 96x96 --preset full --frames 17 "
        "--backend onnxruntime"
    )


def test_a_gpu_that_it_fits_on_comes_first(run: Run) -> None:
    told = json.loads(run("plan", EMBEDDED, "--vram", "2GB", "--json").out)
    assert (told["backend"], told["machine"]["vram_mb"]) == ("tensorrt-rtx", 2048)
    assert told["text_backend"] is None
    assert set(told["estimates"]) == {"fp16", "int8", "int4"}
    assert told["estimates"]["fp16"]["tensorrt-rtx"]["vram_mb"] < told["vram_mb"]
    told = json.loads(run("plan", EMBEDDED, "--vram", "2MB", "--json").out)
    assert told["backend"] == "onnxruntime"
    assert told["tried"]["tensorrt-rtx"]["fits"] is False


def test_a_placement_is_told_as_commands_that_bring_it_about(run: Run, folder: Path) -> None:
    size = ["--size", "512x512", "--frames", "17", "--steps", "2", "--guidance", "4"]
    given = [*size, "--vram", "250MB", "--ram", "0.2GB"]
    told = json.loads(run("plan", EMBEDDED, *given, "--json").out)
    placement = told["placement"]
    assert placement["options"] == {"sequential_guidance": True, "vae_tile": 128}
    assert placement["vram_mb"] < 250 < told["vram_mb"]
    assert all(measure["reason"] for measure in placement["measures"])
    build, vae = placement["build"]
    assert build[1:] == [
        "build", str(EMBEDDED), "--backend", "tensorrt-rtx", "--profile", "512x512x17",
        "--graphs", "text_encoder,denoiser", "--sequential-guidance",
    ]  # fmt: skip
    assert vae[5:] == ["--profile", "128x128x17", "--graphs", "vae_decoder_first,vae_decoder_next"]
    command = placement["generate"]
    assert command == [
        "mutoscope", "generate", "PROMPT", "--bundle", str(EMBEDDED), "--size", "512x512",
        "--preset", "full", "--frames", "17", "--steps", "2", "--guidance", "4", "--vae-tile",
        "128", "--backend", "tensorrt-rtx", "--sequential-guidance",
    ]  # fmt: skip
    assert run("plan", EMBEDDED, *given).out.splitlines()[-1] == " ".join(command)


def test_loras_are_counted_and_asked_for(run: Run) -> None:
    given = ["--preset", "full", "--lora", "outlines", "--lora", "four-steps:0.5@denoiser"]
    told = json.loads(run("plan", EMBEDDED, *given, "--json").out)
    plain = json.loads(run("plan", EMBEDDED, *given[:2], "--json").out)
    assert told["ram_mb"] > plain["ram_mb"] + 5
    command = told["placement"]["generate"]
    at = command.index("--lora")
    assert command[at : at + 4] == ["--lora", "outlines:1", "--lora", "four-steps:0.5@denoiser"]
    told = json.loads(run("plan", EMBEDDED, *given, "--vram", "2GB", "--json").out)
    (build,) = told["placement"]["build"]
    assert build[9:] == ["--refit"]


def test_loras_that_do_not_fit_are_refused(run: Run, folder: Path) -> None:
    done = run("plan", EMBEDDED, "--lora", "outlinse")
    assert done.code == 2
    assert "outlinse" in done.error
    assert run("plan", EMBEDDED, "--lora", "outlines", "--lora", "outlines").error == (
        "--lora names outlines twice; add up the scales"
    )


def test_engines_that_take_loras_are_built_for_it(run: Run) -> None:
    for preset, refit in (("fast", ["--refit"]), ("full", [])):
        told = run("plan", EMBEDDED, "--vram", "2GB", "--preset", preset, "--json").out
        placement = json.loads(told)["placement"]
        (build,) = placement["build"]
        assert build[9:] == refit
        assert preset in placement["generate"]


def test_the_command_of_a_cpu_keeps_within_its_memory(run: Run, folder: Path) -> None:
    size = ["--size", "192x192", "--frames", "5", "--steps", "1"]
    plenty = json.loads(run("plan", EMBEDDED, *size, "--json").out)
    memory = plenty["ram_mb"] * 0.8
    told = json.loads(run("plan", EMBEDDED, *size, "--ram", f"{memory:.0f}MB", "--json").out)
    placement = told["placement"]
    assert placement["options"]
    assert placement["ram_mb"] <= memory
    command = [LONG_PROMPT if part == "PROMPT" else part for part in placement["generate"][1:]]
    command = [sys.executable, "-P", "-m", "mutoscope", *command, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    clip = json.loads(done.stdout)
    assert clip["peak_memory_mb"] == pytest.approx(placement["ram_mb"], rel=0.15)
    assert {name: clip["settings"][name] for name in placement["options"]} == placement["options"]


def way(**options: str | int) -> Way:
    return Way(0, 0, tuple(Measure(name, value, "why") for name, value in options.items()))


def test_engines_that_differ_are_built_apart(expert_bundle_folder: Path) -> None:
    """The text encoder stays on the CPU, both denoisers stream their weights."""
    manifest = Bundle.open(expert_bundle_folder).manifest
    settings = settle(Request(prompt="any"), manifest)
    machine = Machine(1 << 30, 1 << 30)
    plan = Plan(Stages(manifest, settings, lambda *_: pytest.fail("asked")), machine, "fp16", 0)
    ways = {
        "text": way(text_backend="onnxruntime"),
        "image": way(),
        "denoiser": way(sequential_guidance=True, weight_budget=300 << 20),
        "vae": way(vae_tile=128),
    }
    placed = Placement("tensorrt-rtx", machine, ways)
    common = ["mutoscope", "build", "a b", "--backend", "tensorrt-rtx", "--profile", "32x32x5"]
    assert builds(plan, placed, "a b") == [
        [
            *common, "--graphs", "denoiser,denoiser_2", "--weight-streaming",
            "--sequential-guidance",
        ],
        [*common, "--graphs", "vae_decoder_first,vae_decoder_next"],
    ]  # fmt: skip
    assert generate(plan, placed, "a b", {"steps": None, "guidance_scale": 4.5})[3:] == [
        "--bundle", "a b", "--size", "32x32", "--guidance", "4.5", "--frames", "5", "--backend",
        "tensorrt-rtx", "--text-backend", "onnxruntime", "--sequential-guidance", "--vae-tile",
        "128", "--weight-budget", "300MB",
    ]  # fmt: skip
    assert builds(plan, replace(placed, backend="onnxruntime"), "a b") == []


def test_a_gpu_that_keeps_both_experts_is_told_of(expert_bundle_folder: Path) -> None:
    manifest = Bundle.open(expert_bundle_folder).manifest
    settings = settle(Request(prompt="any"), manifest)
    stages = Stages(manifest, settings, lambda *_: pytest.fail("asked"))
    told, stage_names = [], ("text", "image", "denoiser", "vae")
    for backend, vram in (
        ("tensorrt-rtx", 1 << 30),
        ("tensorrt-rtx", 99),
        ("onnxruntime", 1 << 30),
    ):
        machine = Machine(1 << 30, vram)
        report = Report(Plan(stages, machine, "fp16", 0), "a b", {})
        told += report._chosen_lines(
            Placement(backend, machine, dict.fromkeys(stage_names, way()))
        )[1:2]
    alone = "  one of the two denoisers is open at a time"
    assert told == [
        f"{alone}; a pipeline in Python keeps both open for its next clip",
        alone,
        alone,
    ]


@pytest.mark.parametrize(
    ("ram", "text", "gate"),
    [
        (16, ["--text-encoder", "int8"], "let it pass: .35 % off"),
        (8, ["--text-encoder", "int4", "--accept-quality"], "refused it: 5.2 % off"),
    ],
)
def test_a_text_encoder_of_few_bits_is_told_with_the_command_that_makes_it(
    expert_bundle_folder: Path, ram: int, text: list[str], gate: str
) -> None:
    gb, half = 1 << 30, 1 << 29
    manifest = Bundle.open(expert_bundle_folder).manifest
    needs = {
        "text_encoder": Needs(
            0, Peak(22 * gb), Peak(11 * gb), 0, Weights(9 * half, 9 * gb, 2 * gb)
        ),
        "denoiser": Needs(0, Peak(16 * gb), Peak(8 * gb), 0, Weights(4 * gb, 8 * gb, half)),
    }
    tiny = Needs(0, Peak(), Peak(), 0, Weights())
    stages = Stages(
        manifest, settle(Request(prompt="any"), manifest), lambda n, *_: needs.get(n, tiny)
    )
    report = Report(Plan(stages, Machine(ram * gb, 6 * gb), "fp16", 0), "a b", {})
    command = ["mutoscope", "quantize", "a b", "OUT", "--precision", "int8"]
    command += ["--backend", "tensorrt-rtx", *text]
    estimate = report.facts()["estimates"]["int8"]["tensorrt-rtx"]
    assert (estimate["fits"], estimate["text_encoder"]) == (True, text[1])
    assert estimate["make"] == command
    at = report.lines().index(f"  {shlex.join(command)}")
    estimated, reason, judged = report.lines()[at - 3 : at]
    took = f"{estimate['ram_mb'] / 1024:.1f} GB"
    assert estimated.endswith("fits: --backend tensorrt-rtx")
    assert f"{took} of {ram}.0 GB of memory" in estimated
    assert reason.startswith(
        f"  the text encoder on the CPU takes {took} of memory with weights in"
    )
    assert gate in judged
    assert shlex.join(command) in report.refusal()


def test_a_bundle_that_wants_an_image_is_planned_with_one(
    run: Run, channel_bundle_folder: Path
) -> None:
    done = run("plan", channel_bundle_folder)
    assert done.error.endswith("is no ONNX file; export the bundle again")


def test_a_clip_that_begins_with_an_image_takes_its_encoder(run: Run) -> None:
    told, plain = (run("plan", EMBEDDED, *flag) for flag in (["--image"], []))
    assert "vae_encoder_first" in told.out
    assert " --image IMAGE " in told.out.splitlines()[-1]
    assert "encoder_first" not in plain.out
    assert "--image" not in plain.out


def test_what_fits_nowhere_is_refused(run: Run) -> None:
    done = run(
        "plan", EMBEDDED, "--size", "512x512", "--ram", "0.2GB", "--vram", "0.03 GiB", "--json"
    )
    told = json.loads(done.out)
    assert done.code == 2
    assert (told["backend"], told["placement"]) == (None, None)
    assert told["guidance"] == "one prediction after the other"  # a quarter of that is too little
    tried, fitting = told["tried"], told["would_fit"]
    assert [tried[name]["fits"] for name in ("tensorrt-rtx", "onnxruntime")] == [False, False]
    assert done.error.startswith(
        f"the clip fits nowhere: on a GPU it needs at least {tried['tensorrt-rtx']['vram_mb']} MB "
        "(30.7 MB are there); on the CPU it needs at least "
    )
    width, height = fitting["size"]
    vram = f"0.{fitting['vram_mb'] // 102.4 + 1:.0f}GB"
    assert f"; what would: --vram {vram}, or --ram " in done.error
    assert f" without a GPU, or --size {width}x{height}" in done.error
    smaller = run(
        "plan", EMBEDDED, "--size", f"{width}x{height}", "--ram", "0.2GB", "--vram", "0.03GB"
    )
    assert smaller.code == 0


def test_more_takes_more(run: Run) -> None:
    def ram(*request: object) -> float:
        told = run("plan", EMBEDDED, "--preset", "full", "--json", *request).out
        return float(json.loads(told)["ram_mb"])

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
