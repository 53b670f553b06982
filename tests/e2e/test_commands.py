"""The other subcommands, and what they have in common."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope.cli import COMMANDS
from mutoscope.cli.bench_times import arguments_of
from mutoscope.cli.options import ScaledPath, by_file
from mutoscope.errors import UserError

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
Run = Callable[..., Any]


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)
    assert 'Example: mutoscope generate "a red circle moves left to right"' in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert f"Example: mutoscope {name} " in done.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"mutoscope, version {mutoscope.__version__}\n"


LOGGING = """
import logging
from mutoscope.cli import main
try:
    main(["--version"])
finally:
    logging.getLogger("httpx").info("HTTP Request: GET")
    logging.getLogger("mutoscope.runtime").info("ours")
"""


def test_what_other_libraries_note_is_not_ours(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOGGING], capture_output=True, text=True)
    assert done.stderr == "mutoscope: ours\n"


def test_inspect_bundle(run: Run) -> None:
    facts = json.loads(run("inspect", EMBEDDED, "--json").out)
    assert (facts["kind"], facts["family"], facts["name"]) == ("bundle", "wan", "mini-wan")
    assert set(facts["graphs"]) == {
        "text_encoder", "denoiser", "vae_decoder_first", "vae_decoder_next",
        "vae_encoder_first", "vae_encoder_next",
    }  # fmt: skip
    assert facts["defaults"]["steps"] == 30
    assert all(check["passed"] for check in facts["checks"])
    assert {check["graph"] for check in facts["checks"]} == {*facts["graphs"], "clip"}
    assert "family: wan" in run("inspect", EMBEDDED).out


def test_bench_asks_for_the_same_loras() -> None:
    engine = {"bundle": None, "loras": {"a.safetensors": 0.8, "b.safetensors": 1.0}}
    assert arguments_of(engine, {"width": 64, "height": 32, "steps": 2}) == [
        "--steps", "2", "--size", "64x32", "--lora", "a.safetensors:0.8", "--lora",
        "b.safetensors:1.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.safetensors", ("a.safetensors", 1.0, None)),
        ("a.safetensors:0.8", ("a.safetensors", 0.8, None)),
        ("a.safetensors:0.8@denoiser_2", ("a.safetensors", 0.8, "denoiser_2")),
        ("a.safetensors@denoiser", ("a.safetensors", 1.0, "denoiser")),
        ("v@2/a.safetensors", ("v@2/a.safetensors", 1.0, None)),
        ("v:2/a.safetensors", ("v:2/a.safetensors", 1.0, None)),
        ("style@v2:0.5", ("style@v2", 0.5, None)),
    ],
)
def test_a_lora_with_its_scale_and_denoiser(text: str, found: Any) -> None:
    assert ScaledPath().convert(text, None, None) == found


def test_bench_asks_for_loras_of_one_denoiser() -> None:
    engine = {"loras": {"a.safetensors": {"denoiser": 0.8, "denoiser_2": 1.0}}}
    assert arguments_of(engine, {"width": None, "height": None}) == [
        "--lora", "a.safetensors:0.8@denoiser", "--lora", "a.safetensors:1.0@denoiser_2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "scales"),
    [
        ([("a", 1.0, None), ("b", 0.5, "denoiser")], {"a": 1.0, "b": {"denoiser": 0.5}}),
        ([("a", 1, "denoiser"), ("a", 2, "denoiser_2")], {"a": {"denoiser": 1, "denoiser_2": 2}}),
        ([("a", 1, "denoiser"), ("a", 2, "denoiser")], None),
        ([("a", 1, None), ("a", 2, "denoiser")], None),
        ([("a", 1, "denoiser"), ("a", 2, None)], None),
        ([("a", 1, None), ("a", 1, None)], None),
    ],
)
def test_loras_of_the_command_line(given: Any, scales: Any) -> None:
    if scales is None:
        with pytest.raises(UserError, match="--lora names a twice; add up the scales"):
            by_file(tuple(given))
    else:
        assert by_file(tuple(given)) == scales


def test_bench_asks_for_the_same_steps() -> None:
    request = {"width": None, "height": None, "sigmas": (1.0, 0.5), "shift_terminal": 0.4}
    assert arguments_of({"loras": {}}, request) == [
        "--sigmas", "1.0,0.5", "--shift-terminal", "0.4",
    ]  # fmt: skip


def test_bench_of_given_sigmas_and_rescaled_guidance(run: Run) -> None:
    stages = "denoise step,guidance+scheduler,vae first frame,cold start"
    given = ["--sigmas", "1,0.5", "--preset", "full", "--guidance-rescale", 0.7]
    quick = ["bench", "--frames", 5, "--warmup", 0, "--repetitions", 1, "--stages", stages]
    (found,) = json.loads(run(*quick, *given, "-o", "json").out)["runs"]
    assert (found["sigmas"], found["steps"], found["guidance_rescale"]) == ("1/0.5", 2, 0.7)
    assert len(found["measurements"]) == 4


def test_bench_of_a_method_of_guidance(run: Run) -> None:
    stages = "denoise step,guidance+scheduler,vae first frame,cold start"
    given = ["--preset", "full", "--steps", 2, "--guidance-method", "cfg-zero,apg"]
    quick = ["bench", "--frames", 5, "--warmup", 0, "--repetitions", 1, "--stages", stages]
    zero, projected = json.loads(run(*quick, *given, "-o", "json").out)["runs"]
    assert (zero["guidance_method"], zero["zero_init_steps"], zero["apg_eta"]) == (
        "cfg-zero",
        1,
        None,
    )
    assert (projected["guidance_method"], projected["apg_eta"]) == ("apg", 0)
    step = zero["measurements"][0]
    assert step["stage"] == "denoise step"
    assert step["mean_ms"] > 1  # what is measured is a step of the denoiser


def test_bench_asks_for_the_same_memory() -> None:
    engine = {"loras": {}, "weight_budget": 3 << 30}
    request = {"width": None, "height": None, "sequential_guidance": True}
    assert arguments_of(engine, request) == [
        "--weight-budget", "3072.000000MB", "--sequential-guidance",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("none.mp4", "cannot read none.mp4: No such file or directory"),
        ("n" * 300 + ".mp4", "cannot read " + "n" * 300 + ".mp4: File name too long"),
        ("note.txt", "note.txt: .txt is not supported; use .mp4, .mkv, .webm, .gif, .png, or a fo"),
    ],
)
def test_inspect_what_is_neither(run: Run, folder: Path, path: str, told: str) -> None:
    (folder / "note.txt").touch()
    done = run("inspect", path)
    assert done.code == 2
    assert done.error.startswith(told)


BENCH = ["bench", "--steps", 1, "--frames", 5, "--warmup", 0, "--repetitions", 2]
STAGES = [
    "text", "denoise step", "guidance+scheduler", "vae first frame", "vae next frames", "encode",
    "clip", "rest of clip", "cold start",
]  # fmt: skip


def test_bench_json(run: Run, folder: Path) -> None:
    done = run(*BENCH, "-o", "json")
    (only,) = json.loads(done.out)["runs"]
    assert [m["stage"] for m in only["measurements"]] == STAGES
    assert all(m["mean_ms"] > 0 and len(m["seconds"]) == 2 for m in only["measurements"])
    assert 0 < only["peak_memory_mb"] <= 400
    assert only["frames"] == 5
    assert list(folder.iterdir()) == []


def test_bench_sweep_against_an_earlier_one(run: Run, folder: Path) -> None:
    quick = [*BENCH, "--stages", "text,vae first frame"]
    (folder / "base.json").write_text(run(*quick, "--size", "32x32", "-o", "json").out)
    done = run(*quick, "--size", "32x32,48x32", "-o", "csv", "--compare", "base.json")
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [(row["width"], row["stage"]) for row in rows] == [
        ("32", "text"), ("32", "vae first frame"), ("48", "text"), ("48", "vae first frame"),
    ]  # fmt: skip
    assert all(float(row["ratio"]) > 0 for row in rows[:2])
    assert [row["ratio"] for row in rows[2:]] == ["", ""], "another size was not measured before"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "base.json cannot be read: No such file or directory"),
        ("{}", "base.json is not what mutoscope bench -o json writes; make it so: "),
        ("nonsense", "base.json is not what mutoscope bench -o json writes; make it so: "),
        ('{"cpu": "x", "runs": []}', "base.json has none of these settings and stages; settings "),
    ],
)
def test_bench_against_nothing(run: Run, folder: Path, text: str | None, told: str) -> None:
    if text is not None:
        (folder / "base.json").write_text(text)
    done = run(*BENCH, "--stages", "text", "--compare", "base.json")
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(told)


def test_bench_chosen_stages_as_csv(run: Run) -> None:
    done = run(*BENCH, "-o", "csv", "--stages", "text, encode")
    assert [row["stage"] for row in csv.DictReader(done.out.splitlines())] == ["text", "encode"]


def test_bench_unknown_stage(run: Run) -> None:
    done = run("bench", "--stages", "txt")
    assert done.code == 2
    assert done.error.startswith("unknown stage 'txt'; did you mean 'text'?")


def test_progress_on_a_terminal(folder: Path) -> None:
    """Step time and remaining time, on stderr; the result alone goes to stdout."""
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 100))
    command = [sys.executable, "-P", "-m", "mutoscope", "generate", "a red circle", "--steps", "3"]
    done = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=inner, text=True)
    os.close(inner)
    shown = b""
    while done.poll() is None or len(shown) == 0:
        try:
            shown += os.read(outer, 4096)
        except OSError:
            break
    printed, _ = done.communicate()
    os.close(outer)
    assert printed.startswith("clip.mp4: 17 frames, 96x96, 12 fps, seed ")
    last = shown.decode().replace("\r", "\n").split("denoising: ")[-1]
    assert "3/3 [00:0" in last
    assert "step/s]" in last or "s/step]" in last
