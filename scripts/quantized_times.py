"""Time denoisers on a CPU in turn: of bundles, or blocks of Wan 1.3B's width in every format.

    python scripts/quantized_times.py BUNDLE BUNDLE …   # a step of each, at the first's size
    python scripts/quantized_times.py 384x224x9         # two blocks, random weights and inputs

The second needs the export extra; its numbers are random, its seconds are those of the real blocks.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mutoscope.bench.gpu_engines import Case
from mutoscope.bench.machine import describe
from mutoscope.bench.wan_layout import TEXT_TOKENS, WAN_1_3B, Size
from mutoscope.engine import Bundle, EngineOptions, Session, open_graph
from mutoscope.engine.profiles import LatentSize
from mutoscope.quantize.formats import FORMATS
from mutoscope.quantize.options import Options
from mutoscope.quantize.quantizer import study
from mutoscope.quantize.trajectory import Call

PATTERN = Path(__file__).parents[1] / "tests" / "data" / "mini-wan"
LAYOUT = replace(WAN_1_3B, layers=2)
REPETITIONS = 9
GRAPH = "denoiser"


def time_bundles(paths: list[str], threads: int) -> None:
    """One run of each bundle's denoiser, both branches of guidance."""
    bundles, options = [Bundle.open(path) for path in paths], EngineOptions(threads)
    first = bundles[0]
    feeds = Case(first.path, LatentSize.default(first.manifest), batch=2).feeds(first)
    with ExitStack() as stack:
        in_turn(
            {
                str(bundle.path): stack.enter_context(open_graph(bundle, GRAPH, options=options))
                for bundle in bundles
            },
            feeds,
        )


def time_blocks(size: Size, threads: int) -> None:
    """Export random weights, quantize them."""
    from mutoscope.bench.peers.wan_checkpoint import write
    from mutoscope.export import export_bundle
    from mutoscope.export.exporter import Options as ExportOptions

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        write(work / "checkpoint", PATTERN, LAYOUT)
        export_bundle(work / "checkpoint", work / "bundle", ExportOptions(graphs=[GRAPH]))
        bundle, options = Bundle.open(work / "bundle"), EngineOptions(threads)
        feeds = inputs((1, 16, *size.latent), (1, TEXT_TOKENS, LAYOUT.text_dim))
        sessions = {"float32": stack.enter_context(open_graph(bundle, GRAPH, options=options))}
        calls = [Call(GRAPH, feeds, np.asarray(sessions["float32"].run(feeds)["sample"]))]
        subject = study(bundle, GRAPH, calls, Options(threads=threads), lambda line: None)
        kinds = [kind for kind in subject.kinds if kind.startswith("blocks.")]
        for form in FORMATS:
            sessions[form] = stack.enter_context(subject.open(dict.fromkeys(kinds, form)))
        print(f"{LAYOUT.layers} blocks, {size.tokens} tokens")  # noqa: T201
        in_turn(sessions, feeds)


def inputs(latents: tuple[int, ...], text: tuple[int, ...]) -> dict[str, Any]:
    """Random ones, of these shapes."""
    rng = np.random.default_rng(0)
    return {
        "hidden_states": rng.standard_normal(latents).astype(np.float32),
        "timestep": np.full(latents[0], 500, np.float32),
        "encoder_hidden_states": rng.standard_normal(text).astype(np.float32),
    }


def in_turn(sessions: Mapping[str, Session], feeds: dict[str, Any]) -> None:
    """Run all of them once, and again, so that a busy minute meets all alike; print the medians."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for repetition in range(REPETITIONS + 1):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(feeds)
            if repetition:
                times[name].append(time.perf_counter() - began)
    base = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        middle, spread = statistics.median(seconds), statistics.stdev(seconds)
        print(f"{name}: {middle:.4f} ± {spread:.4f} s, {base / middle:.2f}x")  # noqa: T201
    print(describe())  # noqa: T201


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    if Path(sys.argv[1]).is_dir():
        time_bundles(sys.argv[1:], cores)
    else:
        width, height, frames = map(int, sys.argv[1].split("x"))
        time_blocks(Size(width, height, frames), cores)
