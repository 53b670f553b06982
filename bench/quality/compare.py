"""Make the same clips in several ways and compare them with a reference's, prompt by prompt.

A setting is run to its end before the next, so that one model at a time is in memory; the
reference's frames wait on the disk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...runtime import checks
from ...runtime.pipeline import graphs_for
from ...runtime.request import MAX_SEED
from ...runtime.video.failures import file_errors
from ..adherence import PLAIN, prompts, score, vocabulary_of
from .record import ClipQuality, Quality, Report
from .setting import Opener, Setting, Task, Variant, best, check_noise
from .similarity import similarity

Frames = NDArray[np.uint8]
Watcher = Callable[[int, int, Frames], None]
"""Told the number of the setting (the reference's is 0), the place of the prompt, the frames."""

MOST_PROMPTS = 1000


def compare(
    candidates: Sequence[Setting],
    *,
    reference: Setting | None = None,
    task: Task | None = None,
    watch: Watcher | None = None,
) -> Report:
    """How good the clips of each setting are, and how like the reference's from the same noise.

    Args:
        candidates: settings to judge, at least one.
        reference: by default the most precise bundle among theirs, at 30 steps, with its own
            guidance and scheduler.
        task: which clips.
        watch: told of each clip as it is made.

    Raises:
        UserError: a setting that cannot be, or one whose noise is not the reference's.
    """
    return Comparison(candidates, reference=reference, task=task).run(watch)


class Comparison:
    """A comparison whose settings have been checked; nothing is computed yet.

    Attributes:
        variants: the reference, and what is compared with it; a setting that makes the reference's
            own clips, or was given before, is not there twice.
        vocabulary: of the reference's world; `None` where adherence cannot be measured.
        prompts: the texts, and the scenes that they ask for.

    Raises:
        UserError: as `compare`.
    """

    def __init__(
        self,
        candidates: Sequence[Setting],
        *,
        reference: Setting | None = None,
        task: Task | None = None,
    ) -> None:
        if not candidates:
            raise UserError("there is no setting to compare; give at least one")
        task = task or Task()
        count = checks.integer("prompts", task.prompts, 1, MOST_PROMPTS)
        checks.integer("seed", task.seed, 0, MAX_SEED + 1 - count)
        ((prompt, _),) = prompts(1)
        opener = Opener()
        variants = [opener(setting, task, prompt) for setting in candidates]
        standard = opener(reference or best(variants, candidates), task, prompt)
        for variant in variants:
            check_noise(variant, standard)
        distinct: dict[tuple[Any, ...], Variant] = {}
        for variant in [standard, *variants]:
            distinct.setdefault(variant.key, variant)
        self.variants = list(distinct.values())
        self.vocabulary = vocabulary_of(standard.pipe.tokenizer.words)
        self.prompts = prompts(count, vocabulary=self.vocabulary or PLAIN)
        if len(self.prompts) < count:
            raise UserError(f"there are {len(self.prompts)} prompts for this bundle, not {count}")

    def run(self, watch: Watcher | None = None) -> Report:
        """Make all clips and compare them."""
        settings = self.variants[0].settings
        form = (len(self.prompts), settings.frames, settings.height, settings.width, 3)
        found: list[Quality] = []
        with ExitStack() as stack:
            kept = stack.enter_context(_on_disk(form)) if len(self.variants) > 1 else None
            for pipe, group in groupby(self.variants, key=lambda variant: variant.pipe):
                with pipe:
                    for variant in group:
                        clips = self._clips(variant, len(found), kept, watch)
                        found.append(variant.quality(tuple(clips)))
        return Report(found[0], tuple(found[1:]))

    def _clips(
        self, variant: Variant, number: int, kept: Frames | None, watch: Watcher | None
    ) -> Iterator[ClipQuality]:
        if variant.pipe.sessions.keep_open:
            for graph in graphs_for(variant.settings.frames):
                variant.pipe.sessions(graph)
        for place, (prompt, scene) in enumerate(self.prompts):
            seed = variant.settings.seed + place
            clip = variant.pipe(prompt, **{**variant.options, "seed": seed})
            alike = None
            if kept is not None and number:
                alike = similarity(clip.frames, kept[place])
            elif kept is not None:
                kept[place] = clip.frames
            seconds = clip.record.seconds
            yield ClipQuality(
                prompt,
                seed,
                seconds["denoise"],
                seconds["denoise"] + seconds["vae"],
                alike,
                score(clip.frames, scene, self.vocabulary) if self.vocabulary else None,
            )
            if watch is not None:
                watch(number, place, clip.frames)


@contextmanager
def _on_disk(form: tuple[int, ...]) -> Iterator[Frames]:
    """An array in a file without a name; its space is taken at once, not when it is written.

    Raises:
        UserError: there is not enough.
    """
    with TemporaryFile() as file:
        with file_errors(Path(gettempdir()) / "reference-frames"):
            os.posix_fallocate(file.fileno(), 0, math.prod(form))
        yield np.memmap(file, np.uint8, "r+", shape=form)
