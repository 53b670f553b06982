"""Clips made in several ways, compared with a reference's."""

from __future__ import annotations

import errno
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from mutoscope.bench.adherence import FULL, PLAIN, Reading, Score, vocabulary_of
from mutoscope.bench.quality import (
    ClipQuality,
    Comparison,
    Gate,
    Quality,
    Report,
    Setting,
    Similarity,
    Task,
    compare,
    similarity,
)
from mutoscope.bench.quality.report import as_csv, as_json, as_markdown
from mutoscope.bench.quality.sheet import ContactSheet
from mutoscope.engine import Session, Sessions
from mutoscope.errors import UserError
from mutoscope.runtime.video import read_frames

SMALL = Task(2, seed=5, options={"width": 32, "height": 16, "frames": 5})
SEEN = Reading((), "black", "static")


def null(bundle: Path, **options: Any) -> Setting:
    return Setting(bundle, "null", options=options)


def edited(bundle: Path, name: str, **changes: dict[str, Any]) -> Path:
    """A copy of a bundle whose bundle.json says something else."""
    copy = Path(shutil.copytree(bundle, bundle.with_name(name)))
    whole = json.loads((copy / "bundle.json").read_text())
    for part, values in changes.items():
        whole[part] |= values
    (copy / "bundle.json").write_text(json.dumps(whole))
    return copy


def quality(bundle: str, *found: tuple[float, float] | None, right: int = 3) -> Quality:
    """Clips with (mse, ssim), and `right` of four answers right in each."""
    clips = tuple(
        ClipQuality(
            "a red circle",
            seed,
            0.25 + seed,
            0.5 + seed,
            None if pair is None else Similarity(*pair),
            Score(SEEN, {name: i < right for i, name in enumerate(("shape", "colour", "motion",
                                                                   "background"))}),
        )
        for seed, pair in enumerate(found)
    )  # fmt: skip
    settings = {
        "scheduler": "euler",
        "steps": 4,
        "guidance_scale": 4.0,
        "guidance_interval": (0.0, 0.5),
        "step_cache": 0.2,
        "shift": 3.0,
        "shift_terminal": None,
        "guidance_method": "cfg",
        "zero_init_steps": None,
        "apg_eta": None,
        "apg_norm_threshold": None,
        "guidance_rescale": 0.0,
        "sigmas": None,
    }
    return Quality(bundle, "fp32", "null", "full", settings, clips)


REPORT = Report(
    quality("plain", None, None, None, right=4),
    (
        quality("good", (0.0, 1.0), (65.025, 0.9), (0.0, 1.0)),
        quality("same", (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    ),
)


def test_the_same_noise_for_all() -> None:
    """The figures are those of the very clips that a pipeline makes of the same seeds."""
    seen: dict[tuple[int, int], Any] = {}
    report = compare(
        [Setting(options={"steps": 1})],
        reference=Setting(options={"steps": 2}),
        task=SMALL,
        watch=lambda number, place, frames: seen.update({(number, place): frames.copy()}),
    )
    (found,) = report.candidates
    assert list(seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (found.settings["steps"], report.reference.settings["steps"]) == (1, 2)
    options = {**SMALL.options, "steps": 1}
    with mutoscope.load() as pipe:
        for place, clip in enumerate(found.clips):
            assert clip.seed == 5 + place
            again = pipe(clip.prompt, seed=clip.seed, **options).frames
            assert np.array_equal(seen[1, place], again)
            assert clip.similarity == similarity(again, seen[0, place])
            assert clip.similarity.mse > 0
            assert clip.score is not None
    assert all(clip.similarity is None for clip in report.reference.clips)
    assert report.reference.similarity is None
    assert all(found.seconds > 0 for found in report.all)


def test_default_reference(bundle_folder: Path) -> None:
    """The most precise bundle's 30 steps with its own defaults."""
    whole = json.loads((bundle_folder / "bundle.json").read_text())
    graphs = {n: {**g, "precision": "fp16"} for n, g in whole["graphs"].items()}
    half = edited(bundle_folder, "half", graphs=graphs)
    settings = [null(half, steps=3, guidance_scale=1), null(bundle_folder, steps=2)]
    comparison = Comparison(settings)
    assert [variant.bundle for variant in comparison.variants] == [
        str(bundle_folder), str(half), str(bundle_folder),
    ]  # fmt: skip
    reference = comparison.variants[0].settings
    assert (reference.steps, reference.guidance_scale, reference.scheduler) == (30, 4, "euler")
    assert [v.settings.steps for v in comparison.variants] == [30, 3, 2]


def test_nothing_is_made_twice(bundle_folder: Path) -> None:
    settings = [null(bundle_folder, steps=n) for n in (2, 30, 2)]
    comparison = Comparison(settings)
    assert [variant.settings.steps for variant in comparison.variants] == [30, 2]
    assert len({id(variant.pipe) for variant in comparison.variants}) == 1


@pytest.mark.parametrize("keep_open", [True, False])
def test_engines_that_do_not_wait_leave_the_memory_to_the_next(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, keep_open: bool
) -> None:
    """A machine that has memory for each of two models may have none for both."""
    opened: list[set[str]] = []
    ask = Sessions.__call__

    def watched(sessions: Sessions, name: str) -> Session:
        session = ask(sessions, name)
        opened.append(set(sessions._opened))
        return session

    monkeypatch.setattr(Sessions, "__call__", watched)
    setting = replace(null(bundle_folder, steps=2), keep_open=keep_open)
    compare([setting], task=Task(2, options=SMALL.options))
    assert any({"text_encoder", "denoiser"} <= each for each in opened) is keep_open


def test_a_model_of_another_world(bundle_folder: Path) -> None:
    """Identical clips, whose PSNR is infinite; no adherence."""
    report = compare([null(bundle_folder, steps=2)], task=Task(3))
    (found,) = report.candidates
    assert (len(found.clips), found.adherence) == (3, None)
    assert found.similarity == found.worst == Similarity(0.0, pytest.approx(1.0))
    assert found.similarity.psnr == math.inf
    shown = as_markdown(report, {"cores": 2})
    assert "| ∞ (∞) | 1.0000 (1.0000) |" in shown
    assert "Adherence is measured for models of the embedded one's world only." in shown
    reference, candidate = json.loads(as_json(report, {"cores": 2}))["quality"]
    assert (reference["reference"], reference["psnr"], reference["adherence"]) == (True, None, None)
    assert (candidate["psnr"], candidate["identical_clips"]) == (None, 3)
    assert candidate["clips"][0]["identical"] is True
    assert candidate["clips"][0]["right"] is None


def test_engines_are_closed(bundle_folder: Path) -> None:
    comparison = Comparison([null(bundle_folder, steps=2)], task=Task(1))
    comparison.run()
    assert all(not variant.pipe.sessions._opened for variant in comparison.variants)


def test_no_space_for_the_reference(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        assert (start, size) == (0, 3 * 5 * 32 * 32 * 3)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"is full, .*reference-frames was not written; free some"):
        compare([null(bundle_folder, steps=2)], task=Task(3))
    assert compare([null(bundle_folder, steps=30)], task=Task(1)).candidates == ()


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        ([], {}, "there is no setting to compare; give at least one"),
        ([{}], {"prompts": 0}, "prompts must be between 1 and 1000, not 0"),
        ([{}], {"prompts": 2.5}, "prompts must be a whole number, not 2.5"),
        ([{}], {"prompts": 400}, "there are 352 prompts for this bundle, not 400"),
        ([{}], {"seed": -1}, "seed must be between 0 and "),
        ([{}], {"seed": 2**64 - 1}, "seed must be between 0 and 18446744073709551584, not"),
        ([{}], {"options": {"frames": 6}}, r"frames must be 4n\+1, 6 is not: use 5 or 9"),
        ([{"scheduler": "unipcc"}], {}, "unknown scheduler 'unipcc'; did you mean 'unipc'?"),
        ([{"steps": 0}], {}, "steps must be between 1 and 1000, not 0"),
        ([{"stepz": 3}], {}, "unknown option 'stepz'; did you mean 'steps'?"),
    ],
)  # fmt: skip
def test_mistakes(
    bundle_folder: Path, settings: list[dict[str, Any]], task: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Comparison([null(bundle_folder, **options) for options in settings], task=Task(**task))


def test_a_reference_of_another_size(bundle_folder: Path) -> None:
    other = edited(bundle_folder, "other", defaults={"width": 64})
    told = (
        f"{bundle_folder} makes 5 frames of 32x32 (latents of 4x2x4x4), the reference {other} "
        "5 frames of 64x32 (latents of 4x2x4x8): they cannot be compared; "
        "give --size and --frames, or another --reference"
    )
    with pytest.raises(UserError) as raised:
        Comparison([null(bundle_folder)], reference=null(other))
    assert str(raised.value) == told
    Comparison([null(bundle_folder)], reference=null(other), task=SMALL)


def test_a_reference_of_other_channels(bundle_folder: Path) -> None:
    five = {"channels": 5, "mean": [0.0] * 5, "std": [1.0] * 5}
    preview = {"matrix": [[0.1] * 5] * 3, "bias": [0.0] * 3}
    denoiser = json.loads((bundle_folder / "bundle.json").read_text())["graphs"]["denoiser"]
    (noise,) = (spec for spec in denoiser["inputs"] if spec["name"] == "hidden_states")
    noise["shape"][1] = 5
    other = edited(
        bundle_folder,
        "other",
        latents={**five, "preview": preview},
        graphs={"denoiser": denoiser},
    )
    with pytest.raises(UserError, match=r"4x2x4x4\), the reference .* \(latents of 5x2x4x4\)"):
        Comparison([null(bundle_folder)], reference=null(other))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "4"),
        ({"guidance_rescale": 0.7}, "4 rescaled by 0.7"),
        ({"guidance_method": "cfg-zero", "zero_init_steps": 2}, "4 by cfg-zero (2 zero)"),
        (
            {"guidance_method": "apg", "apg_eta": 0.5, "apg_norm_threshold": 0.0},
            "4 by apg (eta 0.5)",
        ),
        (
            {"guidance_method": "apg", "apg_eta": 0.0, "apg_norm_threshold": 9.0,
             "guidance_rescale": 0.7},
            "4 by apg (eta 0, norm 9) rescaled by 0.7",
        ),
    ],
)  # fmt: skip
def test_guidance_in_words(settings: dict[str, Any], words: str) -> None:
    plain = REPORT.reference
    assert replace(plain, settings={**plain.settings, **settings}).guidance == words


def test_figures_of_many_clips() -> None:
    good, same = REPORT.candidates
    assert good.similarity is not None
    assert good.similarity.psnr == pytest.approx(30 + 10 * math.log10(3))
    assert good.worst is not None
    assert good.worst.psnr == pytest.approx(30)
    assert (good.similarity.ssim, good.worst.ssim) == (pytest.approx(2.9 / 3), 0.9)
    assert good.seconds == 1.5
    assert good.adherence is not None
    assert good.adherence.answers.fraction == 0.75
    assert same.similarity == Similarity(0.0, 1.0)


@pytest.mark.parametrize(
    ("gate", "misses"),
    [
        (Gate(), []),
        (Gate(min_psnr=34.7, max_adherence_loss=25), []),
        (Gate(min_psnr=34.8), ["good: PSNR 34.77 dB, at least 34.8 wanted"]),
        (
            Gate(max_adherence_loss=24.5),
            ["good: 25.0 points of adherence lost, 24.5 allowed",
             "same: 25.0 points of adherence lost, 24.5 allowed"],
        ),
    ],
)  # fmt: skip
def test_gate(gate: Gate, misses: list[str]) -> None:
    words = " fp32 on null, full, euler, 4 steps, guidance 4 in 0:0.5, step cache 0.2, shift 3:"
    assert [miss.replace(words, ":") for miss in gate.misses(REPORT)] == misses


def test_markdown() -> None:
    lines = as_markdown(REPORT, {"prompts": 3}).splitlines()
    assert lines[0] == (
        "| bundle | precision | backend | preset | scheduler | steps | guidance | guided "
        "| step cache | shift | s/loop | s/clip | PSNR dB (worst) | SSIM (worst) | adherence % "
        "| shape | colour | motion | background | colour drift | area drift % |"
    )
    setting = "fp32 | null | full | euler | 4 | 4 | 0:0.5 | 0.2 | 3 | 1.250 | 1.500"
    assert lines[2:5] == [
        f"| plain | {setting} | – | – | 100.0 | 3/3 | 3/3 | 3/3 | 3/3 | 0.0 | 0.0 |",
        (
            f"| good | {setting} | 34.77 (30.00) | 0.9667 (0.9000) | 75.0 | 3/3 | 3/3 | 3/3 | 0/3 "
            "| 0.0 | 0.0 |"
        ),
        (
            f"| same | {setting} | ∞ (∞) | 1.0000 (1.0000) | 75.0 | 3/3 | 3/3 | 3/3 | 0/3 "
            "| 0.0 | 0.0 |"
        ),
    ]
    assert lines[5:] == ["", "The first line is the reference.", "", "prompts: 3"]


def test_csv() -> None:
    head, *rows = (line.split(",") for line in as_csv(REPORT, {"cores": 2}).splitlines())
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["psnr"] for row in table] == ["", "34.7712", "inf"]
    assert [row["worst_psnr"] for row in table] == ["", "30.0", "inf"]
    assert [row["identical_clips"] for row in table] == ["0", "2", "3"]
    assert table[1]["background"] == "0.0"
    assert table[1]["cores"] == "2"


def test_json() -> None:
    whole = json.loads(as_json(REPORT, {"cores": 2}))
    good = whole["quality"][1]
    assert (good["psnr"], good["worst_psnr"], good["adherence"]) == (34.7712, 30.0, 0.75)
    assert good["clips"][1] == {
        "prompt": "a red circle", "seed": 1, "loop_seconds": 1.25, "seconds": 1.5,
        "psnr": 30.0, "ssim": 0.9,
        "identical": False,
        "right": {"shape": True, "colour": True, "motion": True, "background": False},
    }  # fmt: skip


def test_contact_sheet(bundle_folder: Path, tmp_path: Path) -> None:
    comparison = Comparison([null(bundle_folder, steps=2)], task=SMALL)
    path = tmp_path / "sheet.png"
    sheet = ContactSheet(path, comparison, overwrite=False)
    assert not path.exists()
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        level = 100 * column + 50 * row + 10
        sheet.put(column, row, np.full((5, 16, 32, 3), level, np.uint8))
    assert sheet.write() == path
    picture = read_frames(path)[0]
    assert picture.shape == (2 * 16 + 4, 2 * 5 * 32 + 4, 3)
    corners = picture[:: 16 + 4 + 15, :: 5 * 32 * 2 + 3, 0].tolist()
    assert corners == [[10, 110], [60, 160]]
    with pytest.raises(UserError, match="exists; choose another name or pass --overwrite"):
        ContactSheet(path, comparison, overwrite=False)
    ContactSheet(path, comparison, overwrite=True)


def test_contact_sheet_of_many(bundle_folder: Path, tmp_path: Path) -> None:
    task = replace(SMALL, prompts=352, options={**SMALL.options, "height": 64})
    comparison = Comparison([null(bundle_folder, steps=2)], task=task)
    with pytest.raises(UserError, match="a side has 1 to 16384"):
        ContactSheet(tmp_path / "sheet.png", comparison, overwrite=False)


def test_the_world_a_tokenizer_was_made_for() -> None:
    plain = {*PLAIN.shapes, *PLAIN.colours, *PLAIN.backgrounds}
    full = {*FULL.shapes, *FULL.colours, *FULL.backgrounds}
    language = full | {str(n) for n in range(5000)}
    assert vocabulary_of(plain) is PLAIN
    assert vocabulary_of(full | {"another"}) is FULL
    assert vocabulary_of(full - {"sea"}) is PLAIN
    assert vocabulary_of(plain - {"star"}) is None
    assert vocabulary_of(language) is None
    with mutoscope.load() as pipe:
        assert vocabulary_of(pipe.tokenizer.words) in (PLAIN, FULL)
