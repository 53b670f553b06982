"""`mutoscope bench --quality`: judge clips, a line for each combination of settings."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..bench.adherence import FULL
from ..bench.machine import describe
from ..bench.quality import Comparison, Gate, Setting, Task
from ..bench.quality.report import FORMATS
from ..bench.quality.setting import REFERENCE_STEPS
from ..bench.quality.sheet import ContactSheet
from ..closing import Closing
from ..engine.manifest import FULL_PRESET
from ..engine.memory import peak_memory_mb
from ..errors import MutoscopeError, UserError
from .options import SWEPT, split
from .sweep import combinations


@dataclass(frozen=True)
class Judgement:
    """The options that only `--quality` takes; they are explained with the command."""

    prompts: int
    reference: str | None
    contact_sheet: Path | None
    overwrite: bool
    min_psnr: float | None
    max_adherence_loss: float | None


OWN = (*SWEPT, "guidance_rescale", "sigmas")
"""What settings have of their own; all else is the same for all clips, the reference's too."""


def judge(judgement: Judgement, form: str, options: dict[str, Any]) -> None:
    """Compare, print the table, then hold it to the bounds.

    Raises:
        MutoscopeError: a bound is missed.
        UserError: options that cannot be.
    """
    comparison = _comparison(judgement, options)
    gate = _gate(judgement, comparison)
    sheet = None
    if judgement.contact_sheet is not None:
        sheet = ContactSheet(judgement.contact_sheet, comparison, overwrite=judgement.overwrite)
    with _Watch(comparison, sheet) as watch:
        report = comparison.run(watch)
    if sheet is not None:
        click.echo(f"{sheet.write()}: a row a prompt, a column a line of the table", err=True)
    click.echo(FORMATS[form](report, _facts(comparison)))
    misses = gate.misses(report)
    if misses:
        raise MutoscopeError(f"the quality gate is missed: {'; '.join(misses)}")


def _comparison(judgement: Judgement, options: dict[str, Any]) -> Comparison:
    _, shared = split({**options, **dict.fromkeys(OWN)})
    seed = shared.pop("seed")
    task = Task(judgement.prompts, 0 if seed is None else seed, shared)
    settings = [_setting(options, chosen) for chosen in combinations(options, SWEPT)]
    reference = None
    if judgement.reference is not None:
        reference = replace(
            settings[0],
            bundle=judgement.reference,
            precision=None,
            preset=FULL_PRESET,
            loras={},
            options={"steps": REFERENCE_STEPS},
        )
    return Comparison(settings, reference=reference, task=task)


def _setting(options: dict[str, Any], chosen: dict[str, Any]) -> Setting:
    engine, request = split({**options, **chosen})
    return Setting(**engine, options={name: request[name] for name in request if name in OWN})


def _gate(judgement: Judgement, comparison: Comparison) -> Gate:
    bounds = {"min-psnr": judgement.min_psnr, "max-adherence-loss": judgement.max_adherence_loss}
    for name, bound in bounds.items():
        if bound is not None and not (math.isfinite(bound) and bound >= 0):
            raise UserError(f"--{name} must be 0 or more, not {bound:g}")
    if judgement.max_adherence_loss is not None and comparison.vocabulary is None:
        raise UserError(
            "--max-adherence-loss needs a model of the embedded one's world, "
            f"{comparison.variants[0].bundle} is not; use --min-psnr"
        )
    if set(bounds.values()) != {None} and len(comparison.variants) == 1:
        raise UserError(
            "there is nothing to hold to a bound: these settings are the reference's own; "
            "give others, or another --reference"
        )
    return Gate(judgement.min_psnr, judgement.max_adherence_loss)


def _facts(comparison: Comparison) -> dict[str, Any]:
    settings = comparison.variants[0].settings
    worlds = {None: "none", FULL: "full"}
    return {
        "prompts": len(comparison.prompts),
        "vocabulary": worlds.get(comparison.vocabulary, "plain"),
        **{name: getattr(settings, name) for name in ("width", "height", "frames", "seed")},
        "peak_memory_mb": round(peak_memory_mb(), 1),
        **describe(),
    }


class _Watch(Closing):
    """Says which setting is being run, and how far all are; fills the contact sheet."""

    def __init__(self, comparison: Comparison, sheet: ContactSheet | None) -> None:
        self._comparison = comparison
        self._sheet = sheet
        total = len(comparison.variants) * len(comparison.prompts)
        self._bar = tqdm(total=total, desc="clips", unit="clip", disable=None)
        self._announce(0)

    def __call__(self, number: int, place: int, frames: NDArray[np.uint8]) -> None:
        """Take note of a clip."""
        self._bar.update()
        if self._sheet is not None:
            self._sheet.put(number, place, frames)
        if place == len(self._comparison.prompts) - 1:
            self._announce(number + 1)

    def close(self) -> None:
        """End the line of the bar."""
        self._bar.close()

    def _announce(self, number: int) -> None:
        for variant in self._comparison.variants[number : number + 1]:
            clips = len(self._comparison.prompts)
            tqdm.write(f"{clips} clips: {variant.quality().name} …", sys.stderr)
