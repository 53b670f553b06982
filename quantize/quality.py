"""What quantization costs: errors on the source's own way, and clips from the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from ..bench.quality import Report, Setting, Task, compare
from ..engine import EngineOptions, Sessions
from ..engine.bundle import Bundle
from ..engine.manifest import DENOISERS, FULL_PRESET, TEXT_ENCODER, QualitySpec
from ..errors import MutoscopeError
from ..runtime.embeddings import encode
from ..runtime.text import Tokenizer
from .deviation import Deviation
from .trajectory import BACKEND, Array, Clips, Step, record

MAX_STEP_ERROR = 0.02
"""Of the denoisers' predictions, at each step."""

MAX_TEXT_ERROR = 0.02
"""Of the text encoder's embeddings, over the prompts of those clips."""

MIN_PSNR = 25.0
"""In dB, of the frames."""

MAX_ADHERENCE_LOSS = 2.0
"""Points of a hundred."""

KEPT = 2 << 30
"""Bytes of a source whose engines stay open from clip to clip; a larger one's take their turns."""

SAME = 100.0
"""What is written for equal clips, whose PSNR is infinite."""


class QualityError(MutoscopeError):
    """The quantized bundle is too far from its source; `quality` has every figure."""

    def __init__(self, quality: QualitySpec) -> None:
        super().__init__(
            f"the quality gate is missed, nothing was written: {'; '.join(quality.missed)}; "
            "--accept-quality writes the bundle all the same, and it will say so"
        )
        self.quality = quality


@dataclass
class Deviations:
    """Of the predictions, by graph and by step, and of the latents after each step."""

    graphs: dict[str, Deviation] = field(default_factory=dict)
    steps: list[Deviation] = field(default_factory=list)
    latents: list[Deviation] = field(default_factory=list)


def judge(source: Bundle, made: Bundle, way: Clips, task: Task, threads: int | None) -> QualitySpec:
    """Compare a quantized bundle with its source.

    Args:
        source: what it was made of.
        made: the quantized bundle.
        way: clips whose steps are compared one by one; not those it was calibrated on.
        task: clips whose frames are compared.
        threads: CPU threads.
    """
    found = follow(source, made, way, threads)
    size = sum(file.size for file in source.manifest.files.values())
    same = Setting(preset=FULL_PRESET, threads=threads, keep_open=size <= KEPT)
    report = compare(
        [replace(same, bundle=made.path)], reference=replace(same, bundle=source.path), task=task
    )
    errors = {name: deviation.relative for name, deviation in found.graphs.items()}
    if made.graph(TEXT_ENCODER).precision != source.graph(TEXT_ENCODER).precision:
        errors[TEXT_ENCODER] = text_error(source, made, way.prompts, threads)
    return _quality(errors, found, report)


def follow(source: Bundle, made: Bundle, way: Clips, threads: int | None) -> Deviations:
    """Run both bundles along the same clips."""
    found, kept = Deviations(), []
    with Sessions(made, BACKEND, EngineOptions(threads)) as sessions:
        for steps in record(source, way, threads):
            for index, step in enumerate(steps):
                _predict(sessions, step, _at(found.steps, index), found.graphs)
            kept.append([step.latents for step in steps])
    for wanted, steps in zip(kept, record(made, way, threads), strict=True):
        for index, (latents, step) in enumerate(zip(wanted, steps, strict=True)):
            _at(found.latents, index).add(step.latents, latents)
    return found


def _predict(
    sessions: Sessions, step: Step, total: Deviation, graphs: dict[str, Deviation]
) -> None:
    for call in step.calls:
        for other in DENOISERS:
            if other != call.graph:
                sessions.release(other)
        got = np.asarray(sessions(call.graph).run(call.feeds)["sample"])
        total.add(got, call.output)
        graphs.setdefault(call.graph, Deviation()).add(got, call.output)


def _at(deviations: list[Deviation], index: int) -> Deviation:
    if index == len(deviations):
        deviations.append(Deviation())
    return deviations[index]


def text_error(source: Bundle, made: Bundle, prompts: Sequence[str], threads: int | None) -> float:
    """The relative error of the embeddings of some prompts."""
    text, total = source.manifest.text, Deviation()
    tokenizer = Tokenizer(source.file(text.tokenizer), text.max_tokens)
    found: list[list[Array]] = []
    for bundle in (made, source):  # one after the other: each may fill a machine
        with Sessions(bundle, BACKEND, EngineOptions(threads)) as sessions:
            encoder = sessions(TEXT_ENCODER)
            found.append([np.array(encode(encoder, tokenizer(prompt))) for prompt in prompts])
    for got, wanted in zip(*found, strict=True):
        total.add(got, wanted)
    return total.relative


def _quality(errors: dict[str, float], found: Deviations, report: Report) -> QualitySpec:
    (candidate,) = report.candidates
    alike = candidate.similarity
    assert alike is not None
    answers = [
        None if each.adherence is None else round(each.adherence.answers.fraction, 4)
        for each in (candidate, report.reference)
    ]
    quality = QualitySpec(
        errors=errors,
        step_errors=tuple(deviation.relative for deviation in found.steps),
        latent_errors=tuple(deviation.relative for deviation in found.latents),
        psnr=round(min(alike.psnr, SAME), 2),
        ssim=round(alike.ssim, 4),
        adherence=answers[0],
        source_adherence=answers[1],
        clips=len(candidate.clips),
    )
    return msgspec.structs.replace(quality, missed=tuple(misses(quality)))


def misses(quality: QualitySpec) -> Iterator[str]:
    """What bounds are not kept, a phrase each."""
    worst = max(quality.step_errors)
    if worst > MAX_STEP_ERROR:
        place = f"step {quality.step_errors.index(worst) + 1} of {len(quality.step_errors)}"
        yield f"denoiser error {worst:.2%} at {place}, at most {MAX_STEP_ERROR:.0%} wanted"
    error = quality.errors.get(TEXT_ENCODER, 0.0)
    if error > MAX_TEXT_ERROR:
        yield f"{TEXT_ENCODER} error {error:.2%}, at most {MAX_TEXT_ERROR:.0%} wanted"
    if quality.psnr < MIN_PSNR:
        yield f"PSNR {quality.psnr:.2f} dB, at least {MIN_PSNR:g} wanted"
    if quality.adherence is not None and quality.source_adherence is not None:
        lost = round(100 * (quality.source_adherence - quality.adherence), 6)
        if lost > MAX_ADHERENCE_LOSS:
            yield f"{lost:.1f} points of adherence lost, {MAX_ADHERENCE_LOSS:g} allowed"
