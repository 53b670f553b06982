"""A bundle → a bundle with fewer bits: the whole way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bench.adherence import PLAIN, prompts, vocabulary_of
from ..bench.quality import Task
from ..engine.bundle import Bundle
from ..engine.folders import whole_folder
from ..engine.manifest import DENOISERS, TEXT_ENCODER, Manifest
from ..engine.onnx_file import OnnxFile
from ..engine.target import check_target
from ..errors import UserError
from ..runtime.guidance import TIMESTEP
from ..runtime.request import Request, settle
from ..runtime.text import Tokenizer
from .activations import Activations, observe
from .formats import SETTLED, Input
from .graph import Linear, find_linears
from .grid import INT8
from .options import KEEP, TEXT_FORMATS, Options, check_bundle, check_options
from .quality import QualityError, judge
from .sensitivity import Subject, choose
from .smoothing import asymmetric, find_factors, symmetric
from .trajectory import Call, Clips, record, spread
from .writer import Writer

WAYS = 2
"""Clips that are followed step by step."""

SEEN, TRIED = 32, 16
"""Runs of a denoiser that are looked at, and of those, runs that a format is tried on; they are
taken at equal distances over the steps of all clips."""

Report = Callable[[str], None]


def quantize_bundle(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: Options | None = None,
    report: Report = lambda line: None,
) -> Manifest:
    """Write a bundle whose denoisers and text encoder have fewer bits.

    The autoencoder stays as it is, and so does what the model's own error shows to be sensitive.

    Args:
        source: a bundle in fp32; for TensorRT also in fp16.
        target: the folder to write. It is there when it is whole, or not at all.
        options: see `Options`.
        report: is told what goes on, a line at a time.

    Raises:
        UserError: a bundle, a target or an option that does not do.
        QualityError: the result is too far from the source, and that is not accepted.
        MissingExtraError: onnxruntime or protobuf is not installed.
    """
    options, target = options or Options(), Path(target)
    check_options(options)
    check_target(target, overwrite=options.overwrite)
    bundle = Bundle.open(source)
    check_bundle(bundle, options.backend)
    calibration, way, task = plan_clips(bundle, options)
    report(f"making {options.calibration} clips to calibrate with")
    calls = calibrate(bundle, calibration, options.threads)
    with whole_folder(target) as folder:
        writer = Writer(bundle, folder, options.backend)
        write_graphs(writer, bundle, calls, options, report)
        made = writer.finish()
        report(f"making {WAYS + task.prompts} clips with both bundles to compare them")
        quality = judge(bundle, made, way, task, options.threads)
        if quality.missed and not options.accept_quality:
            raise QualityError(quality)
        return writer.describe(made, quality)


def plan_clips(bundle: Bundle, options: Options) -> tuple[Clips, Clips, Task]:
    """The clips to calibrate with, to follow step by step, and to look at; noise is never shared.

    Raises:
        UserError: a request that the bundle cannot be asked.
    """
    words = Tokenizer(bundle.file(bundle.manifest.text.tokenizer), 1).words
    vocabulary = vocabulary_of(words) or PLAIN
    texts = [text for text, _ in prompts(options.calibration + WAYS, vocabulary=vocabulary)]
    settle(Request.of(texts[0], {**options.request, "seed": options.seed}), bundle.manifest)
    clips = Clips(tuple(texts), options.seed, options.request)
    task = Task(options.prompts, options.seed + len(texts), options.request)
    return *clips.split(options.calibration), task


def calibrate(bundle: Bundle, clips: Clips, threads: int | None) -> dict[str, list[Call]]:
    """Runs of each denoiser by its name, at equal distances over all steps, earlier ones first.

    Each clip gives other steps than the one before; the first one gives each denoiser's last step,
    which bears least.

    Raises:
        UserError: a denoiser has no part in these clips.
    """
    found: dict[str, list[Call]] = {}
    for number, steps in enumerate(record(bundle, clips, threads)):
        calls = [call for step in steps for call in step.calls]
        for name in DENOISERS:
            seen = [call for call in calls if call.graph == name]
            apart = max(1, len(seen) * len(clips.prompts) // SEEN)
            found.setdefault(name, []).extend(seen[::-1][number % apart :: apart])
    for name in DENOISERS:
        if name in bundle.manifest.graphs and not found[name]:
            raise UserError(f"no step of these clips comes to {name!r}; give more --steps")
    return {
        name: sorted(calls, key=lambda call: -float(call.feeds[TIMESTEP].max()))
        for name, calls in found.items()
        if calls
    }


def write_graphs(
    writer: Writer,
    bundle: Bundle,
    calls: Mapping[str, Sequence[Call]],
    options: Options,
    report: Report,
) -> None:
    """Write the denoisers and the text encoder."""
    for name, seen in calls.items():
        subject = study(bundle, name, seen, options, report)
        choice = choose(subject, options.ladder, options.target_error, report)
        if not choice:
            raise UserError(
                f"{bundle.path}: nothing of the graph {name!r} can be {options.precision} "
                f"within an error of {options.target_error:.2%}; allow more with --target-error"
            )
        writer.graph(subject, choice, options.precision)
    form = options.text_encoder or ("int8" if options.backend == "onnxruntime" else KEEP)
    if form in TEXT_FORMATS and TEXT_ENCODER in bundle.manifest.graphs:
        report(f"{TEXT_ENCODER}: {form}")
        subject = Subject(bundle, TEXT_ENCODER, linears_of(bundle, TEXT_ENCODER), {}, (), None)
        writer.graph(subject, dict.fromkeys(subject.kinds, TEXT_FORMATS[form]), form)


def study(
    bundle: Bundle, name: str, calls: Sequence[Call], options: Options, report: Report
) -> Subject:
    """Look at what goes through a denoiser's products, and smooth what gains by it."""
    linears, threads = linears_of(bundle, name), options.threads
    report(f"{name}: looking at {len(linears)} products in {len(calls)} runs")
    seen = observe(bundle, name, linears, calls, threads)
    settled = SETTLED.get(options.ladder[0])
    quantize = partial(symmetric, settled) if settled else asymmetric
    factors = find_factors(OnnxFile(bundle, name), linears, seen, quantize, settled or INT8)
    report(f"{name}: {len(factors)} of {len(seen)} inputs are smoothed")
    inputs = {source: _input(found, factors.get(source)) for source, found in seen.items()}
    return Subject(bundle, name, linears, inputs, spread(calls, TRIED), threads)


def _input(seen: Activations, factors: NDArray[np.float32] | None) -> Input:
    divided = seen if factors is None else seen.divided(factors)
    return Input(factors, float(divided.peak.max()))


def linears_of(bundle: Bundle, name: str) -> tuple[Linear, ...]:
    """The products of a graph.

    Raises:
        UserError: there are none.
    """
    found = tuple(find_linears(OnnxFile(bundle, name)))
    if not found:
        raise UserError(
            f"{bundle.path}: the graph {name!r} has no product with a constant matrix, "
            "so there is nothing to quantize; export the bundle again"
        )
    return found
