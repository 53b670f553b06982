"""A comparison as a table for people, or as records for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from ..adherence.score import ATTRIBUTES
from ..report import NONE, csv_lines, facts_line, interval, listed
from .record import ClipQuality, Quality, Report
from .similarity import Similarity

HEADS = (
    "bundle", "precision", "backend", "preset", "scheduler", "steps", "guidance", "guided",
    "step cache", "shift", "s/loop", "s/clip", "PSNR dB (worst)", "SSIM (worst)",
)  # fmt: skip
DRIFTS = ("colour drift", "area drift %")


def rows(report: Report) -> list[dict[str, Any]]:
    """One flat record a setting, all with the same fields; `None` where nothing was measured."""
    return [_row(found, is_reference=found is report.reference) for found in report.all]


def as_markdown(report: Report, facts: dict[str, Any]) -> str:
    """A table, the reference first, and below it what it was measured on."""
    asked = _asked(report)
    adherence = ("adherence %", *asked, *DRIFTS) if asked else ()
    heads = (*HEADS, *adherence)
    lines = [heads, ("---",) * len(heads)]
    lines += [_cells(found, asked) for found in report.all]
    table = [f"| {' | '.join(line)} |" for line in lines]
    note = "The first line is the reference."
    if not asked:
        note += " Adherence is measured for models of the embedded one's world only."
    return "\n".join([*table, "", note, "", facts_line(facts)])


def as_csv(report: Report, facts: dict[str, Any]) -> str:
    """One line a setting, the facts repeated on each; an infinite PSNR is `inf`."""
    return csv_lines([{**row, **facts} for row in rows(report)])


def as_json(report: Report, facts: dict[str, Any]) -> str:
    """One object: the facts, and the records with every single clip; an infinite PSNR is `null`."""
    records = [
        {**row, "clips": [_clip(clip) for clip in found.clips]}
        for row, found in zip(rows(report), report.all, strict=True)
    ]
    return json.dumps(_finite({**facts, "quality": records}), allow_nan=False)


FORMATS = {"md": as_markdown, "csv": as_csv, "json": as_json}


def _row(found: Quality, *, is_reference: bool) -> dict[str, Any]:
    adherence = found.adherence
    tallies = adherence.tallies if adherence else {}
    return {
        "reference": is_reference,
        "bundle": found.bundle,
        "precision": found.precision,
        "backend": found.backend,
        "preset": found.preset,
        **found.settings,
        "guidance_interval": interval(found.settings["guidance_interval"]),
        "sigmas": listed(found.settings["sigmas"]),
        "loop_seconds": round(found.loop_seconds, 6),
        "seconds": round(found.seconds, 6),
        **_figures("", found.similarity),
        **_figures("worst_", found.worst),
        "identical_clips": sum(alike.mse == 0 for alike in found.similarities),
        "adherence": adherence and round(adherence.answers.fraction, 6),
        **{name: round(tallies[name].fraction, 6) for name in ATTRIBUTES if name in tallies},
        "colour_drift": adherence and round(adherence.colour_drift, 3),
        "area_drift": adherence and round(adherence.area_drift, 6),
    }


def _figures(prefix: str, alike: Similarity | None) -> dict[str, float | None]:
    psnr, ssim = (round(alike.psnr, 4), round(alike.ssim, 6)) if alike else (None, None)
    return {f"{prefix}psnr": psnr, f"{prefix}ssim": ssim}


def _clip(clip: ClipQuality) -> dict[str, Any]:
    return {
        "prompt": clip.prompt,
        "seed": clip.seed,
        "loop_seconds": round(clip.loop_seconds, 6),
        "seconds": round(clip.seconds, 6),
        **_figures("", clip.similarity),
        "identical": None if clip.similarity is None else clip.similarity.mse == 0,
        "right": clip.score and clip.score.right,
    }


def _cells(found: Quality, asked: tuple[str, ...]) -> tuple[str, ...]:
    s, alike, worst = found.settings, found.similarity, found.worst
    cells = [
        found.bundle, found.precision, found.backend, found.preset, s["scheduler"], f"{s['steps']}",
        found.guidance, interval(s["guidance_interval"]), f"{s['step_cache']:g}",
        found.shift, f"{found.loop_seconds:.3f}", f"{found.seconds:.3f}",
    ]  # fmt: skip
    if alike and worst:
        cells += [f"{_decibel(alike)} ({_decibel(worst)})", f"{alike.ssim:.4f} ({worst.ssim:.4f})"]
    else:
        cells += [NONE, NONE]
    adherence = found.adherence
    if adherence:
        cells += [f"{100 * adherence.answers.fraction:.1f}"]
        cells += [
            f"{adherence.tallies[name].right}/{adherence.tallies[name].asked}" for name in asked
        ]
        cells += [f"{adherence.colour_drift:.1f}", f"{100 * adherence.area_drift:.1f}"]
    return tuple(cells)


def _decibel(alike: Similarity) -> str:
    return "∞" if math.isinf(alike.psnr) else f"{alike.psnr:.2f}"


def _asked(report: Report) -> tuple[str, ...]:
    adherence = report.reference.adherence
    return tuple(adherence.tallies) if adherence else ()


def _finite(value: Any) -> Any:
    """The same with `None` for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value
