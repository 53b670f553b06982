"""`mutoscope bench --quality`: the table, the bounds, the mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutoscope
import pytest
from mutoscope.runtime.video import probe

pytestmark = pytest.mark.e2e
EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
Run = Callable[..., Any]
QUALITY = ["bench", "--quality", "--prompts", 2, "--size", "32x32", "--frames", 5, "--threads", 1]


def test_sweep(run: Run, folder: Path) -> None:
    shutil.copytree(EMBEDDED, folder / "copy")
    done = run(
        *QUALITY, "--steps", "1,12", "--scheduler", "euler", "--scheduler", "unipc", "--bundle",
        f"copy,{EMBEDDED}", "-o", "json", "--contact-sheet", "sheet.png",
    )  # fmt: skip
    assert done.code == 0
    whole = json.loads(done.out)
    rows = whole["quality"]
    ways = [(row["reference"], row["scheduler"], row["steps"]) for row in rows]
    assert ways == [
        (True, "euler", 30),
        *((False, scheduler, steps) for scheduler in ("euler", "unipc") for steps in (1, 12)),
    ]
    assert {row["bundle"] for row in rows} == {"copy"}, "the same bundle is not run twice"
    assert all(row["seconds"] > 0 and 0 <= row["adherence"] <= 1 for row in rows)
    assert all(0 < row["worst_psnr"] <= row["psnr"] < 60 for row in rows[1:])
    assert rows[2]["psnr"] > rows[1]["psnr"], "twelve steps are nearer to thirty than one"
    assert (whole["prompts"], whole["width"], whole["frames"]) == (2, 32, 5)
    sheet = probe(folder / "sheet.png")
    assert (sheet.width, sheet.height) == (5 * 5 * 32 + 4 * 4, 2 * 32 + 4)
    assert done.err.splitlines()[0] == (
        "2 clips: copy fp32 on onnxruntime, full, euler, 30 steps, guidance 4 in 0:1, "
        "step cache 0, shift 3 …"
    )


def test_the_model_alone_is_the_reference(run: Run) -> None:
    done = run(*QUALITY, "--preset", "full", "-o", "csv")
    (row,) = csv.DictReader(done.out.splitlines())
    assert (row["reference"], row["bundle"], row["preset"]) == ("True", "mini-wan", "full")
    assert row["steps"] == "30"
    assert (row["psnr"], row["seed"], row["prompts"]) == ("", "0", "2")


def test_a_preset_is_compared_with_the_model_alone(run: Run) -> None:
    done = run(*QUALITY, "-o", "json")
    reference, few = json.loads(done.out)["quality"]
    assert [row["preset"] for row in (reference, few)] == ["full", "fast"]
    assert (reference["steps"], reference["shift_terminal"]) == (30, None)
    assert (few["steps"], few["guidance_scale"], few["shift_terminal"]) == (4, 1, 0.4)
    assert 0 < few["psnr"] < 60


def test_a_lora_is_compared_with_the_bundle_alone(run: Run) -> None:
    given = "--preset", "full", "--lora", "outlines", "--reference", EMBEDDED
    done = run(*QUALITY, *given, "-o", "json")
    reference, outlined = json.loads(done.out)["quality"]
    assert reference["preset"] == outlined["preset"] == "full"
    assert 0 < outlined["psnr"] < 60


def test_what_is_asked_of_steps_and_guidance_is_not_the_references(run: Run) -> None:
    given = "--preset", "full", "--sigmas", "1,0.5", "--guidance-rescale", 0.7
    reference, other = json.loads(run(*QUALITY, *given, "-o", "json").out)["quality"]
    assert (reference["steps"], reference["sigmas"], reference["guidance_rescale"]) == (30, "", 0)
    assert (other["steps"], other["sigmas"], other["guidance_rescale"]) == (2, "1/0.5", 0.7)
    assert "4 rescaled by 0.7" in run(*QUALITY, *given).out


def test_methods_of_guidance_are_swept(run: Run) -> None:
    given = "--preset", "full", "--steps", 3, "--guidance-method", "cfg,cfg-zero,apg"
    rows = json.loads(run(*QUALITY, *given, "-o", "json").out)["quality"]
    told = [(row["guidance_method"], row["zero_init_steps"], row["apg_eta"]) for row in rows]
    assert told == [
        ("cfg", None, None),
        ("cfg", None, None),
        ("cfg-zero", 1, None),
        ("apg", None, 0),
    ]
    assert len({row["psnr"] for row in rows}) == 4


def test_bounds(run: Run, folder: Path) -> None:
    """The table is printed all the same; then one line, and exit code 1."""
    cheap = [*QUALITY, "--steps", 1, "--reference", EMBEDDED]
    done = run(*cheap, "--min-psnr", 90)
    assert done.code == 1
    assert len([line for line in done.out.splitlines() if line.startswith("| ")]) == 4
    last = done.err.splitlines()[-1]
    assert last.startswith(
        "mutoscope: error: the quality gate is missed: mini-wan fp32 on onnxrunt"
    )
    assert last.endswith(" dB, at least 90 wanted")
    assert run(*cheap, "--min-psnr", 1, "--max-adherence-loss", 100).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quality", "--prompts", 0], "prompts must be between 1 and 1000, not 0"),
        (
            ["--quality", "--steps", "4,x"],
            "Invalid value for '--steps': 'x' is not a valid integer",
        ),
        (["--quality", "--steps", "4,"], "Invalid value for '--steps': '' is not a valid integer"),
        (["--quality", "--steps", "4,0"], "steps must be between 1 and 1000, not 0"),
        (["--quality", "--scheduler", "euler,unipcc"], "unknown scheduler 'unipcc'; did you mean"),
        (["--quality", "--seed", -1], "seed must be between 0 and "),
        (["--quality", "--bundle", "none"], "no bundle at none: there is no such folder"),
        (["--quality", "--reference", "none"], "no bundle at none: there is no such folder"),
        (["--quality", "--precision", "int8"], f"{EMBEDDED} is fp32, not int8; make one with"),
        (["--quality", "--stages", "clip"], "--stages does not go with --quality"),
        (["--quality", "--warmup", 1], "--warmup does not go with --quality"),
        (["--prompts", 3], "--prompts needs --quality"),
        (["--min-psnr", 3], "--min-psnr needs --quality"),
        (
            ["--quality", "--frames", "5,9"],
            "--frames takes several values without --quality only; give one",
        ),
        (["--quality", "--contact-sheet", "a.jpg"], "a.jpg: a contact sheet is a .png"),
        (["--quality", "--contact-sheet", "none/a.png"], "the folder none does not exist; make it"),
        (
            ["--quality", "--preset", "full", "--min-psnr", 30],
            "there is nothing to hold to a bound: these settings are",
        ),
        (
            ["--quality", "--steps", 2, "--min-psnr", "nan"],
            "--min-psnr must be 0 or more, not nan",
        ),
        (
            ["--quality", "--steps", 2, "--max-adherence-loss", -1],
            "--max-adherence-loss must be 0 or more, not -1",
        ),
    ],
)
def test_mistakes(run: Run, folder: Path, arguments: list[Any], told: str) -> None:
    done = run("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(told)
    assert list(folder.iterdir()) == []


def test_a_bound_that_cannot_be_measured(run: Run, bundle_folder: Path) -> None:
    done = run("bench", "--quality", "--bundle", bundle_folder, "--backend", "null", "--steps", 2,
               "--max-adherence-loss", 3)  # fmt: skip
    assert done.code == 2
    assert done.error == (
        "--max-adherence-loss needs a model of the embedded one's world, "
        f"{bundle_folder} is not; use --min-psnr"
    )


def test_a_contact_sheet_is_not_overwritten(run: Run, folder: Path) -> None:
    (folder / "sheet.png").write_text("precious")
    done = run("bench", "--quality", "--steps", 1, "--contact-sheet", "sheet.png")
    assert done.error == "sheet.png exists; choose another name or pass --overwrite"
    assert (folder / "sheet.png").read_text() == "precious"


def test_interrupted(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    process = start(*QUALITY[:2], "--size", "256x256", "--frames", 81, "--contact-sheet", "a.png")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("32 clips: mini-wan")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "mutoscope: error: interrupted; nothing half-written is left\n"
    assert list(folder.iterdir()) == []
